"""The report for browsers: a static site with a page for each run and one for all."""
