"use strict";
/*
 * The page of a run. Its data come as scripts, since a page from a disk may fetch nothing: the index at once, the
 * rest when it is asked for. All text reaches the page as text nodes, and none as HTML: guests have written it.
 */
(() => {
  const RUN = document.documentElement.dataset.run;
  const view = document.getElementById("view");
  const status = document.getElementById("status");
  const BAD = ["failed", "error", "missed"];
  /* The columns of a step, as site/steps.py writes them. */
  const STEP = {
    guest: 0, step: 1, actor: 2, operation: 3, requested: 4, region: 5, verdict: 6, linux: 7, table: 8, tracked: 9,
    disagree: 10, log: 11,
  };
  const ROW = {
    kernel: 0, layout: 1, hardware: 2, first: 3, operation: 4, requested: 5, verdict: 6, linux: 7, table: 8, kind: 9,
    count: 10, file: 11,
  };
  let index = null;

  /* ---- data ---- */

  const arrived = new Map();
  const expected = new Map();

  window.memtypeData = (name, data) => {
    if (name === "index") {
      index = data;
      begin();
      return;
    }
    const found = new Map();
    for (const [key, value] of data) {
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(value);
    }
    arrived.set(name, found);
  };

  /* The data of a key in a file: all that were added under it, in their order. */
  function load(kind, number, key) {
    const name = `${kind}-${number}`;
    if (!expected.has(name)) {
      expected.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${encodeURIComponent(RUN)}/${name}.js`;
        script.onload = () => resolve();
        script.onerror = () => {
          expected.delete(name);
          reject(new Error(`${RUN}/${name}.js can't be loaded: is the report's folder whole?`));
        };
        document.head.append(script);
      }));
    }
    return expected.get(name).then(() => arrived.get(name).get(key) || []);
  }

  /* Show data when they come, or why they don't, unless the page has no place for them any more. */
  function fill(box, data, show) {
    data.then((found) => { if (box.isConnected) show(found); })
      .catch((error) => { if (box.isConnected) trouble(error); });
  }

  /* ---- elements ---- */

  function el(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((each) => each !== null && each !== ""));
    return element;
  }

  function address(name, parameters) {
    const given = Object.entries(parameters || {}).filter(([, value]) => value !== "" && value != null);
    const query = new URLSearchParams(given).toString();
    return `#/${name}${query ? `?${query}` : ""}`;
  }

  function place() {
    const [name, query] = location.hash.replace(/^#\//, "").split("?");
    return { name: name || "overview", given: new URLSearchParams(query || "") };
  }

  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const say = (text) => { status.textContent = text; };

  function colour(word) {
    if (BAD.includes(word) || word === "FAILED" || word === "fatal" || word === "error") return "bad";
    if (word === "passed" || word === "accepted" || word === "ABSENT") return "good";
    if (word.startsWith("≠") || word === "substituted" || word === "REPRODUCED" || word === "warning") return "warn";
    return "";
  }

  function facts(pairs) {
    return el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  /* ---- tests ---- */

  const test = {
    name: (number) => index.tests.cases[index.tests.case[number]],
    kernel: (number) => index.tests.kernel[number] < 0 ? "" : index.short[index.tests.kernel[number]],
    layout: (number) => index.tests.layout[number] < 0 ? "" : index.layouts[index.tests.layout[number]],
    hardware: (number) => index.tests.hardware[number] < 0 ? "" : index.hardware[index.tests.hardware[number]],
    status: (number) => index.strings[index.tests.status[number]],
    bug: (number) => index.strings[index.tests.bug[number]],
    headline: (number) => index.strings[index.tests.headline[number]],
    worst: (number) => index.strings[index.tests.worst[number]],
    link: (number, at) => address("test", {
      case: test.name(number),
      kernel: index.tests.kernel[number] < 0 ? "" : index.kernels[index.tests.kernel[number]],
      at: at,
    }),
  };

  let byName = null;

  /* The number of a test by its name and its kernel's; undefined if there is none. */
  function find(name, kernel) {
    if (byName === null) {
      byName = new Map();
      index.tests.case.forEach((each, number) => {
        const of = index.tests.kernel[number];
        byName.set(`${of < 0 ? "" : index.kernels[of]}\n${index.tests.cases[each]}`, number);
      });
    }
    return byName.get(`${kernel}\n${name}`);
  }

  /* ---- a filter, whose values stand in the page's address ---- */

  function filter(name, given, fields, changed) {
    const form = el("form", { class: "filter", role: "search", "aria-label": "Filter" });
    const values = {};
    const write = () => {
      const kept = { ...Object.fromEntries(given), ...values };
      history.replaceState(null, "", address(name, kept));
      changed(values);
    };
    for (const field of fields) {
      values[field.name] = given.get(field.name) || "";
      let input;
      if (field.choices) {
        input = el("select", { name: field.name }, el("option", { value: "" }, "all"));
        for (const [value, title] of field.choices) {
          input.append(el("option", { value: value, selected: value === values[field.name] }, title));
        }
        input.addEventListener("change", () => { values[field.name] = input.value; write(); });
      } else {
        input = el("input", { type: "search", name: field.name, value: values[field.name], autocomplete: "off" });
        input.addEventListener("input", () => { values[field.name] = input.value; write(); });
      }
      form.append(el("label", {}, field.title, input));
    }
    form.append(el("button", { type: "reset" }, "Clear"));
    form.addEventListener("reset", () => {
      /* The form's own values are those that it was made with. */
      setTimeout(() => {
        for (const field of fields) {
          values[field.name] = "";
          form.elements[field.name].value = "";
        }
        write();
      });
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    return { form: form, values: values };
  }

  const choices = (names) => names.map((each, number) => [each, index.short.length && names === index.kernels
    ? index.short[number] : each]).sort((one, other) => one[1].localeCompare(other[1], "en", { numeric: true }));

  const numberOf = (names, value) => (value === "" ? -1 : names.indexOf(value));

  /* ---- a list of which only the visible rows are in the page ---- */

  function list(kind, titles, draw, open) {
    const spacer = el("div", { class: "spacer", role: "presentation" });
    const box = el("div", { class: "list", tabindex: 0, role: "grid", "aria-label": kind, "aria-colcount": titles.length });
    const heads = el("div", { class: `heads of-${kind}`, "aria-hidden": "true" }, ...titles.map((each) => el("span", {}, each)));
    box.append(spacer);
    let items = [];
    let active = 0;
    let marked = null;
    let height = 40;
    let pending = false;

    function render() {
      pending = false;
      const first = Math.max(0, Math.floor(box.scrollTop / height) - 4);
      const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + 4);
      const rows = [];
      for (let at = first; at < last; at += 1) {
        const cells = draw(items[at]).map(([text, style], column) => el("span", {
          role: "gridcell", class: style || null, title: text, "data-label": titles[column],
        }, String(text)));
        const row = el("div", {
          class: `row of-${kind}${at === active ? " active" : ""}${items[at] === marked ? " open" : ""}`,
          role: "row", id: `${kind}-${at}`, "aria-rowindex": at + 1, "data-item": items[at],
          onclick: () => { active = at; open(items[at]); later(); },
        }, ...cells);
        row.style.transform = `translateY(${at * height}px)`;
        rows.push(row);
      }
      spacer.replaceChildren(...rows);
      if (items.length) box.setAttribute("aria-activedescendant", `${kind}-${active}`);
      else box.removeAttribute("aria-activedescendant");
    }

    function later() {
      if (!pending) {
        pending = true;
        requestAnimationFrame(render);
      }
    }

    function measure() {
      height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"))
        * parseFloat(getComputedStyle(document.documentElement).fontSize);
      spacer.style.height = `${items.length * height}px`;
    }

    function move(to) {
      active = Math.max(0, Math.min(items.length - 1, to));
      const top = active * height;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
      later();
    }

    box.addEventListener("scroll", later);
    box.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(box.clientHeight / height) - 1);
      const moves = {
        ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0,
        End: items.length - 1,
      };
      if (event.key in moves) move(moves[event.key]);
      else if ((event.key === "Enter" || event.key === " ") && items.length) open(items[active]);
      else return;
      event.preventDefault();
      later();
    });
    new ResizeObserver(() => { measure(); later(); }).observe(box);
    return {
      element: el("div", {}, heads, box),
      show(found, word) {
        items = found;
        active = 0;
        box.scrollTop = 0;
        box.setAttribute("aria-rowcount", items.length);
        measure();
        render();
        say(plural(items.length, word));
      },
      mark(item) {
        marked = item;
        const at = items.indexOf(item);
        if (at >= 0) active = at;
        later();
      },
      focus() { box.focus(); },
    };
  }

  /* Some of many items at a time, with buttons for the others. */
  function paged(items, most, draw, first) {
    const box = el("div", {});
    let page = Math.floor((first || 0) / most);
    const pages = Math.max(1, Math.ceil(items.length / most));
    function render() {
      const some = items.slice(page * most, (page + 1) * most);
      const turn = (by, title) => el("button", {
        type: "button", disabled: page + by < 0 || page + by >= pages,
        onclick: () => { page += by; render(); box.querySelector("button").focus(); },
      }, title);
      const pager = pages < 2 ? [] : [el("div", { class: "pager" }, turn(-1, "Previous"), turn(1, "Next"),
        `${page * most + 1} to ${page * most + some.length} of ${items.length}`)];
      box.replaceChildren(...pager, draw(some));
    }
    render();
    return box;
  }

  /* ---- the views ---- */

  const views = {};

  views.overview = () => {
    const counts = new Map();
    index.tests.status.forEach((each) => counts.set(each, (counts.get(each) || 0) + 1));
    const cards = [...counts].map(([each, count]) => {
      const word = index.strings[each];
      return el("li", {}, el("a", { href: address("tests", { status: word }) },
        el("b", { class: colour(word) }, String(count)), `${word}`));
    });
    const kinds = new Map();
    const cells = new Map();
    for (const row of index.rows) {
      kinds.set(row[ROW.kind], true);
      const key = `${row[ROW.kernel]} ${row[ROW.kind]}`;
      cells.set(key, (cells.get(key) || 0) + row[ROW.count]);
    }
    const order = [...kinds.keys()].sort((one, other) => index.strings[one].localeCompare(index.strings[other]));
    const head = el("tr", {}, el("th", { scope: "col" }, "kernel"),
      ...order.map((each) => el("th", { scope: "col", class: "number" }, index.strings[each])));
    const body = index.kernels.map((kernel, number) => el("tr", {}, el("th", { scope: "row" }, kernel),
      ...order.map((each) => {
        const count = cells.get(`${number} ${each}`);
        return el("td", { class: "number" }, count ? el("a", {
          href: address("matrix", { kernel: kernel, kind: index.strings[each] }),
        }, String(count)) : "");
      })));
    view.replaceChildren(
      el("h2", {}, "Tests"), el("ul", { class: "cards" }, ...cards),
      el("h2", {}, "Mappings that were asked for"),
      el("p", { class: "hint" }, "accepted, refused: verifier and Linux agree. ≠ mapped: Linux mapped what the "
        + "verifier refused. ≠ substituted, ≠ refused: the verifier accepted, and Linux gave another type, or refused."),
      el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Mappings" },
        el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))),
      el("h2", {}, "Environment"), facts(index.environment),
    );
    say("");
  };

  views.matrix = (given) => {
    const kinds = [...new Set(index.rows.map((row) => index.strings[row[ROW.kind]]))].sort();
    const operations = [...new Set(index.rows.map((row) => index.strings[row[ROW.operation]]))].sort();
    const detail = el("section", { class: "detail", tabindex: -1, "aria-label": "Steps", hidden: true });
    const split = el("div", { class: "split" });

    function open(number) {
      const row = index.rows[number];
      const text = (name) => index.strings[row[ROW[name]]];
      const kept = { ...Object.fromEntries(given), ...bar.values, row: number };
      history.replaceState(null, "", address("matrix", kept));
      detail.hidden = false;
      split.classList.add("opened");
      rows.mark(number);
      const close = el("button", { type: "button", onclick: shut }, "Close");
      const loading = el("p", {}, "Loading the steps ...");
      detail.replaceChildren(close, el("h2", {}, `${text("operation")} ${text("requested")}`), facts([
        ["kernel", index.kernels[row[ROW.kernel]]], ["layout", index.layouts[row[ROW.layout]]],
        ["hardware", index.hardware[row[ROW.hardware]]], ["mapped already", text("first")],
        ["verifier", text("verdict")], ["Linux", text("linux")], ["page table", text("table")], ["answer", text("kind")],
      ]), loading);
      fill(loading, load("places", row[ROW.file], number), (found) => {
        const places = [];
        const flat = found.flat();
        for (let at = 0; at < flat.length; at += 3) places.push(flat.slice(at, at + 3));
        loading.replaceWith(paged(places, 100, (some) => el("ol", {}, ...some.map(([of, guest, step]) =>
          el("li", {}, el("a", { href: test.link(of, `${guest}.${step}`) },
            `${test.name(of)}, guest ${guest}, step ${step}`))))));
        detail.focus();
      });
    }

    function shut() {
      detail.hidden = true;
      split.classList.remove("opened");
      history.replaceState(null, "", address("matrix", bar.values));
      given.delete("row");
      rows.mark(null);
      rows.focus();
    }

    const titles = ["kernel", "layout", "hardware", "mapped already", "operation", "type", "verifier", "Linux", "page table",
      "answer", "times"];
    const rows = list("matrix", titles, (number) => {
      const row = index.rows[number];
      const text = (name) => index.strings[row[ROW[name]]];
      return [
        [index.short[row[ROW.kernel]]], [index.layouts[row[ROW.layout]]], [index.hardware[row[ROW.hardware]], "less"],
        [text("first")], [text("operation"), "first"], [text("requested")], [text("verdict"), colour(text("verdict"))],
        [text("linux"), colour(text("linux"))], [text("table")], [text("kind"), colour(text("kind"))],
        [String(row[ROW.count]), "number"],
      ];
    }, open);
    detail.addEventListener("keydown", (event) => { if (event.key === "Escape") shut(); });

    function choose(values) {
      const wanted = {
        kernel: numberOf(index.kernels, values.kernel), layout: numberOf(index.layouts, values.layout),
        hardware: numberOf(index.hardware, values.hardware),
      };
      const words = values.q.toLowerCase().split(/\s+/).filter(Boolean);
      const found = [];
      index.rows.forEach((row, number) => {
        for (const name of ["kernel", "layout", "hardware"]) {
          if (values[name] !== "" && row[ROW[name]] !== wanted[name]) return;
        }
        if (values.operation !== "" && index.strings[row[ROW.operation]] !== values.operation) return;
        const kind = index.strings[row[ROW.kind]];
        if (values.kind === "≠" ? !kind.startsWith("≠") : values.kind !== "" && kind !== values.kind) return;
        if (words.length) {
          const all = ["first", "operation", "requested", "verdict", "linux", "table", "kind"]
            .map((name) => index.strings[row[ROW[name]]]).join(" ").toLowerCase();
          if (!words.every((each) => all.includes(each))) return;
        }
        found.push(number);
      });
      rows.show(found, "row");
    }

    const bar = filter("matrix", given, [
      { name: "kernel", title: "kernel", choices: choices(index.kernels) },
      { name: "layout", title: "layout", choices: choices(index.layouts) },
      { name: "hardware", title: "hardware", choices: choices(index.hardware) },
      { name: "operation", title: "operation", choices: operations.map((each) => [each, each]) },
      { name: "kind", title: "answer", choices: [["≠", "≠ any disagreement"], ...kinds.map((each) => [each, each])] },
      { name: "q", title: "search" },
    ], choose);
    split.append(rows.element, detail);
    view.replaceChildren(el("h2", {}, "Verdicts"), bar.form, split);
    choose(bar.values);
    const row = Number.parseInt(given.get("row"), 10);
    if (row >= 0 && row < index.rows.length) open(row);
  };

  function testList(name, title, kind, titles, draw, word, every) {
    return (given) => {
      const statuses = [...new Set(index.tests.status)].map((each) => index.strings[each]).sort();
      const go = (number) => { location.hash = test.link(number); };
      const rows = list(kind, titles, draw, go);
      function choose(values) {
        const words = values.q.toLowerCase().split(/\s+/).filter(Boolean);
        const kernel = numberOf(index.kernels, values.kernel);
        const layout = numberOf(index.layouts, values.layout);
        const found = [];
        index.tests.case.forEach((each, number) => {
          if (!every(number)) return;
          if (values.kernel !== "" && index.tests.kernel[number] !== kernel) return;
          if (values.layout !== "" && index.tests.layout[number] !== layout) return;
          if (values.status !== "" && test.status(number) !== values.status) return;
          if (words.length) {
            const all = `${index.tests.cases[each]} ${test.headline(number)} ${test.bug(number)}`.toLowerCase();
            if (!words.every((one) => all.includes(one))) return;
          }
          found.push(number);
        });
        rows.show(found, word);
      }
      const bar = filter(name, given, [
        { name: "kernel", title: "kernel", choices: choices(index.kernels) },
        { name: "layout", title: "layout", choices: choices(index.layouts) },
        { name: "status", title: "result", choices: statuses.map((each) => [each, each]) },
        { name: "q", title: "search" },
      ], choose);
      view.replaceChildren(el("h2", {}, title), bar.form, rows.element);
      choose(bar.values);
    };
  }

  views.tests = testList("tests", "Tests", "tests",
    ["result", "test", "kernel", "layout", "hardware", "steps", "≠", "seconds"], (number) => [
      [test.status(number), colour(test.status(number))], [test.name(number), "first code"], [test.kernel(number)],
      [test.layout(number)], [test.hardware(number), "less"], [String(index.tests.steps[number]), "number"],
      [String(index.tests.disagreements[number] || ""), "number warn"], [index.tests.seconds[number].toFixed(1), "number"],
    ], "test", () => true);

  views.failures = testList("failures", "Failures", "failures", ["result", "test", "kernel", "why"], (number) => [
    [test.status(number), "bad"], [test.name(number), "first code"], [test.kernel(number)], [test.headline(number), "first"],
  ], "failed test", (number) => BAD.includes(test.status(number)));

  views.audit = testList("audit", "What the audits found", "audit", ["worst", "test", "kernel", "layout", "aliases"],
    (number) => [
      [test.worst(number), colour(test.worst(number))], [test.name(number), "first code"], [test.kernel(number)],
      [test.layout(number)], [String(index.tests.findings[number]), "number"],
    ], "test", (number) => index.tests.audit[number] >= 0);

  views.test = (given) => {
    const number = find(given.get("case") || "", given.get("kernel") || "");
    if (number === undefined) {
      view.replaceChildren(el("p", { class: "trouble" }, `This run has no test ${given.get("case")} on ${given.get("kernel")}.`));
      return;
    }
    const failure = el("div", {});
    const audit = el("div", {});
    const steps = el("div", {}, el("p", {}, index.tests.steps[number] ? "Loading the steps ..." : "It did nothing in a guest."));
    const kernel = index.tests.kernel[number];
    const pairs = [
      ["result", el("span", { class: colour(test.status(number)) }, test.status(number))],
      ["kernel", kernel < 0 ? "" : index.kernels[kernel]], ["layout", test.layout(number)], ["hardware", test.hardware(number)],
      ["seconds", String(index.tests.seconds[number])],
    ];
    if (test.headline(number)) pairs.push(["why", test.headline(number)]);
    if (test.bug(number)) pairs.push(["reported bug", el("a", { href: address("bugs", {}) }, test.bug(number))]);
    const others = index.kernels.filter((each, of) => of !== kernel && find(test.name(number), each) !== undefined);
    if (others.length) {
      const links = others.map((each) => el("li", {}, el("a", {
        href: test.link(find(test.name(number), each), given.get("at")),
      }, `${each}: ${test.status(find(test.name(number), each))}`)));
      pairs.push(["on other kernels", el("details", {}, el("summary", {}, plural(others.length, "kernel")), el("ul", {}, ...links))]);
    }
    const title = el("h2", { class: "code", tabindex: -1 }, test.name(number));
    view.replaceChildren(title, facts(pairs), failure, audit, el("h3", {}, "Steps"), steps);
    title.focus();
    say("");
    if (index.tests.failure[number] >= 0) {
      fill(failure, load("failures", index.tests.failure[number], number), (found) => showFailure(failure, found[0]));
    }
    if (index.tests.audit[number] >= 0) {
      fill(audit, load("audits", index.tests.audit[number], number), (found) => showAudits(audit, found.flat()));
    }
    const pieces = index.tests.pieces[number];
    if (pieces.length) {
      fill(steps, Promise.all(pieces.map((each) => load("steps", each, number))),
        (found) => showSteps(steps, found.flat(), given.get("at"), number));
    }
  };

  function showFailure(box, found) {
    const parts = [el("h3", {}, "Failure"), el("pre", { tabindex: 0 }, found.details)];
    for (const [guest, text] of found.consoles) {
      parts.push(el("h3", {}, `The end of the console of ${guest}`), el("pre", { class: "console", tabindex: 0 }, text));
    }
    parts.push(el("h3", {}, "To run it again"), el("pre", { class: "again", tabindex: 0 }, found.again));
    if (found.links.length) {
      parts.push(el("h3", {}, "Evidence"), el("ul", { class: "evidence" }, ...found.links.map(([name, file]) =>
        el("li", {}, el("a", { href: file.split("/").map(encodeURIComponent).join("/") }, name)))));
    }
    if (found.left) parts.push(el("p", { class: "hint" }, found.left));
    box.replaceChildren(...parts);
  }

  function showAudits(box, audits) {
    const parts = [el("h3", {}, "What the audit found in page tables")];
    for (const each of audits) {
      for (const finding of each.findings) {
        parts.push(el("div", { class: `finding${finding.excused ? " excused" : ""}` },
          el("strong", { class: colour(finding.danger) }, `${finding.danger}: ${finding.kind}, ${finding.types}`),
          ` guest ${each.guest}, ${finding.where} (${finding.size}), ${finding.owner}: ${finding.reason}`,
          finding.excused ? el("p", { class: "hint" }, "The verifier refused a mapping of it: the test is about it.") : "",
          el("ul", { class: "code" }, ...finding.mappings.map((one) => el("li", {}, one)))));
      }
      for (const remark of each.remarks) parts.push(el("p", { class: "hint" }, remark));
      if (each.picture) {
        parts.push(el("figure", {}, el("img", {
          src: each.picture.split("/").map(encodeURIComponent).join("/"), loading: "lazy",
          alt: `Physical memory of guest ${each.guest} by effective memory type, with its conflicts`,
        }), el("figcaption", { class: "hint" }, `Memory of guest ${each.guest} by effective type`)));
      }
    }
    box.replaceChildren(...parts);
  }

  function showSteps(box, pieces, at, number) {
    const guests = new Map();
    const steps = [];
    for (const [about, some] of pieces) {
      for (const [guest, texts] of Object.entries(about)) guests.set(Number(guest), texts);
      steps.push(...some);
    }
    const wanted = steps.findIndex((each) => `${each[STEP.guest]}.${each[STEP.step]}` === at);
    const names = ["step", "actor", "operation", "type", "memory", "verifier", "Linux", "page table", "tracked, mapped already", "kernel's messages"];
    const draw = (some) => {
      let guest = null;
      const rows = [];
      for (const each of some) {
        if (each[STEP.guest] !== guest) {
          guest = each[STEP.guest];
          const about = guests.get(guest) || [];
          rows.push(el("tr", {}, el("th", { colspan: names.length, scope: "rowgroup" },
            `Guest ${guest}: ${about[0]}, ${about[1]}, by ${about[2]}, ${about[3]}, QEMU ${about[4]}`)));
        }
        const here = `${each[STEP.guest]}.${each[STEP.step]}`;
        const texts = [
          el("a", { href: test.link(number, here), title: "link to this step" }, String(each[STEP.step])),
          each[STEP.actor], each[STEP.operation], each[STEP.requested], each[STEP.region], each[STEP.verdict],
          each[STEP.disagree] ? `≠ ${each[STEP.linux]}` : each[STEP.linux], each[STEP.table], each[STEP.tracked],
          each[STEP.log].join("\n"),
        ];
        const style = (column) => (column === 9 ? "log code" : column === 5 || column === 6
          ? colour(String(texts[column]).split(",")[0].split(" ")[0]) : "");
        const row = el("tr", { class: here === at ? "here" : null, "data-step": here, tabindex: here === at ? -1 : null },
          ...texts.map((text, column) => el("td", { "data-label": names[column], class: style(column) || null }, text)));
        rows.push(row);
      }
      return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Steps" },
        el("table", { class: "timeline" }, el("thead", {}, el("tr", {}, ...names.map((each) => el("th", { scope: "col" }, each)))),
          el("tbody", {}, ...rows)));
    };
    box.replaceChildren(paged(steps, 200, draw, Math.max(0, wanted)));
    say(plural(steps.length, "step"));
    const here = box.querySelector("tr.here");
    if (here) {
      here.scrollIntoView({ block: "center" });
      here.focus({ preventScroll: true });
    }
  }

  views.layouts = (given) => {
    const box = el("div", {});
    function choose(values) {
      const found = index.pictures.filter((each) => values.layout === "" || each.layout === values.layout);
      box.replaceChildren(paged(found, 20, (some) => el("div", {}, ...some.map((each) => el("figure", {},
        el("h3", {}, each.layout), el("p", { class: "hint" }, each.hardware),
        each.file ? el("img", {
          src: each.file.split("/").map(encodeURIComponent).join("/"), loading: "lazy",
          alt: `The memory of layout ${each.layout} from the bottom up: ranges, their MTRR type, whose they are`,
        }) : el("p", { class: "trouble" }, "Its picture can't be read."),
        el("figcaption", { class: "hint" }, each.remark, " ",
          el("a", { href: address("matrix", { layout: each.layout }) }, "its verdicts")))))));
      say(plural(found.length, "picture"));
    }
    const names = [...new Set(index.pictures.map((each) => each.layout))].sort();
    const bar = filter("layouts", given, [
      { name: "layout", title: "layout", choices: names.map((each) => [each, each]) },
    ], choose);
    view.replaceChildren(el("h2", {}, "Layouts"), bar.form, box);
    choose(bar.values);
  };

  views.bugs = () => {
    const bugs = index.bugs;
    if (!bugs.bugs.length) {
      view.replaceChildren(el("h2", {}, "Reported bugs"), el("p", {}, "This run had no reproducer of a reported bug."));
      return;
    }
    const head = el("tr", {}, el("th", { scope: "col" }, "bug"), ...bugs.kernels.map((each) => el("th", { scope: "col" }, each)));
    const body = bugs.bugs.map(([id, title, cells]) => el("tr", {},
      el("th", { scope: "row" }, el("strong", {}, id), el("br"), title),
      ...cells.map(([word, evidence, tests]) => el("td", {}, el("span", { class: colour(word) }, word),
        evidence ? el("details", {}, el("summary", {}, "evidence"), el("pre", { tabindex: 0 }, evidence)) : "",
        ...tests.map((number) => el("div", {}, el("a", { href: test.link(number) }, "steps")))))));
    view.replaceChildren(el("h2", {}, "Reported bugs"), el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Bugs" },
      el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))));
    say(plural(bugs.bugs.length, "bug"));
  };

  views.kernels = (given) => {
    const { kernels, changes, left } = index.differences;
    const box = el("div", {});
    const head = () => el("tr", {}, el("th", { scope: "col" }, "operation"),
      ...kernels.map((each) => el("th", { scope: "col" }, index.short[each])),
      el("th", { scope: "col", class: "number" }, "times"), el("th", { scope: "col" }, "where"));
    const examples = (change) => el("details", {}, el("summary", {}, plural(change.examples.length, "example")),
      el("ul", {}, ...change.examples.map(([name, guest, step]) => el("li", {}, `${name}, guest ${guest}, step ${step}: `,
        ...kernels.flatMap((each) => {
          const number = find(name, index.kernels[each]);
          return number === undefined ? [] : [el("a", { href: test.link(number, `${guest}.${step}`) }, index.short[each]), " "];
        })))));
    function choose(values) {
      const words = values.q.toLowerCase().split(/\s+/).filter(Boolean);
      const found = changes.filter((each) => {
        const all = [each.operation, ...each.answers, ...each.examples.map((one) => one[0])].join(" ").toLowerCase();
        return words.every((one) => all.includes(one));
      });
      box.replaceChildren(paged(found, 50, (some) => el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Differences" },
        el("table", {}, el("thead", {}, head()), el("tbody", {}, ...some.map((change) => el("tr", {},
          el("th", { scope: "row" }, change.operation), ...change.answers.map((each) => el("td", {}, each)),
          el("td", { class: "number" }, String(change.times)), el("td", {}, examples(change)))))))));
      say(plural(found.length, "difference"));
    }
    const bar = filter("kernels", given, [{ name: "q", title: "search" }], choose);
    view.replaceChildren(el("h2", {}, "What differs between the kernels"), bar.form, box);
    if (left) view.append(el("p", { class: "hint" }, `${left} more are left out.`));
    choose(bar.values);
  };

  /* ---- the page ---- */

  function trouble(error) {
    view.prepend(el("p", { class: "trouble", role: "alert" }, error.message));
  }

  function show() {
    /* Another fragment is a link within the page. */
    if (location.hash && !location.hash.startsWith("#/")) return;
    const { name, given } = place();
    for (const link of document.querySelectorAll("nav a")) {
      if (link.dataset.view === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    say("");
    window.scrollTo(0, 0);
    (Object.hasOwn(views, name) ? views[name] : views.overview)(given);
  }

  function begin() {
    view.removeAttribute("aria-busy");
    window.addEventListener("hashchange", show);
    document.addEventListener("keydown", (event) => {
      const search = document.querySelector("form.filter input[type=search]");
      if (event.key === "/" && search && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
        search.focus();
        event.preventDefault();
      }
    });
    show();
  }
})();
