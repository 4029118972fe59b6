// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What others map, in the verifier's records: marked as observed, judged by
 * the same rules, and counted whatever the rules say, since it is mapped.
 *
 * A mapping is counted with the type it was asked for when the rules allow it,
 * as a mapping of our own is, and otherwise with the type that the kernel gave
 * it.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "arch_x86.h"
#include "observe.h"
#include "observe_probe.h"
#include "state.h"

#define MOST_OBSERVATIONS 4096
/* A call of the kernel's may wait for memory, or its CPU may be taken away. */
#define MOST_SECONDS 20

struct observation {
	struct list_head node;
	struct memtype_observation what;
};

struct event {
	struct list_head node;
	struct probe_event what;
};

/* All under state_lock. */
static LIST_HEAD(observations);
static unsigned int observations_count;
static u64 observations_dropped;
/* What the ring gave, in the order in which it returned, and is not in the records yet. */
static LIST_HEAD(events);
/* Are the probes to run, and how many measurements are there that want them to stand still? */
static bool probes_wanted = true;
static unsigned int pauses;
/* Calls that were seen, but could not be counted for want of memory. */
static u64 uncounted;

/*
 * Stands for the address space of every observed user mapping. Theirs may be
 * gone before the reservation is: children share it from 6.16 on.
 */
static const char somebodys_space;

static u64 observe_first_page(const struct probe_event *event)
{
	return event->start >> PAGE_SHIFT;
}

static u64 observe_last_page(const struct probe_event *event)
{
	return (event->end - 1) >> PAGE_SHIFT;
}

void observe_note(const struct memtype_observation *what)
{
	struct observation *observation;

	if (observations_count == MOST_OBSERVATIONS) {
		observations_dropped++;
		return;
	}
	observation = kmalloc(sizeof(*observation), GFP_KERNEL);
	if (!observation) {
		observations_dropped++;
		return;
	}
	observation->what = *what;
	list_add_tail(&observation->node, &observations);
	observations_count++;
}

static void observe_reserved(const struct probe_event *event)
{
	struct verifier_request request = {
		.first = observe_first_page(event),
		.pages = observe_last_page(event) - observe_first_page(event) + 1,
		.memtype = event->requested,
		.space = event->user ? &somebodys_space : NULL,
		.pid = event->user ? event->pid : 0,
		.observed = true,
	};
	struct memtype_observation what = {
		.start = request.first << PAGE_SHIFT,
		.pages = request.pages,
		.requested = event->requested,
		.granted = event->granted,
		.error = -event->error,
		.kind = event->user ? MEMTYPE_USER : MEMTYPE_KERNEL,
		.pid = event->pid,
	};
	struct verifier_verdict verdict;

	arch_x86_refresh();
	verifier_check(&state_verifier, &request, &verdict);
	state_fill_verdict(&what.verdict, &verdict);
	strscpy(what.task, event->task, sizeof(what.task));
	strscpy(what.caller, event->caller, sizeof(what.caller));
	strscpy(what.handler, event->handler, sizeof(what.handler));
	observe_note(&what);
	/* A malformed range can't be mapped either. */
	if (event->error || verdict.rule == VERIFIER_MALFORMED || event->counted)
		return;
	if (verdict.error)
		request.memtype = event->granted;
	request.owner = verifier_owner(&state_verifier, event->user ? event->task : event->name);
	if (!request.owner || !verifier_adopt(&state_verifier, &request))
		uncounted++;
}

struct search {
	const struct probe_event *event;
	struct verifier_record *found;
	bool ram;
	bool same_process;
};

/*
 * The record whose mapping memtype_free() has ended. Several may have its
 * range: then one of the same process, else any, since which of them the
 * kernel dropped it doesn't know itself.
 */
static bool observe_find_freed(struct verifier_record *record, void *data)
{
	struct search *search = data;
	u64 first = observe_first_page(search->event), last = observe_last_page(search->event);
	bool same;

	if (!record->observed)
		return true;
	if (search->ram) {
		search->found = record;
		return false;
	}
	same = record->pid == search->event->pid;
	/* Until 6.12 the kernel also shortens an entry that has the same end. */
	if (record->last == last && record->first <= first &&
	    (!search->found || record->first > search->found->first ||
	     (same && record->first == search->found->first && !search->same_process))) {
		search->found = record;
		search->same_process = same;
	}
	return true;
}

static void observe_keep(const struct verifier_record *record, u64 first, u64 last)
{
	struct verifier_request request = {
		.first = first,
		.pages = last - first + 1,
		.memtype = record->memtype,
		.owner = record->owner,
		.space = record->space,
		.pid = record->pid,
		.observed = true,
	};

	if (!verifier_adopt(&state_verifier, &request))
		uncounted++;
}

/* Takes the event's pages out of a record. */
static void observe_trim(struct verifier_record *record, const struct probe_event *event)
{
	u64 first = observe_first_page(event), last = observe_last_page(event);

	if (record->first < first)
		observe_keep(record, record->first, first - 1);
	if (record->last > last)
		observe_keep(record, last + 1, record->last);
	verifier_release(&state_verifier, record);
}

static void observe_freed(const struct probe_event *event)
{
	struct search search = { .event = event };
	u64 first = observe_first_page(event), last = observe_last_page(event);

	if (event->error)
		return;
	/* RAM has a type for each page and no list of ranges: any part may be freed, in any order. */
	search.ram = arch_x86.any_ram(first, last);
	do {
		search.found = NULL;
		verifier_each(&state_verifier, first, last, observe_find_freed, &search);
		/* What isn't there was mapped by our own process that called exec(), or was missed. */
		if (search.found)
			observe_trim(search.found, event);
	} while (search.found && search.ram);
}

/*
 * Does what the kernel answered go with the records as they are? It gives a mapping the type of
 * those in the way, or refuses (memtype_check_conflict(); of RAM reserve_ram_pages_type(), which
 * takes any type but WB for one that is in use; 5.10 to 7.3).
 */
static bool observe_goes_with_records(const struct probe_event *event)
{
	u64 first = observe_first_page(event), last = observe_last_page(event);
	bool in_use = false, in_the_way;
	unsigned int memtype = 0, free;

	free = arch_x86.any_ram(first, last) ? MEMTYPE_WB : event->requested;
	in_the_way = (verifier_lookup(&state_verifier, first, last - first + 1, &memtype, &in_use) ||
		      memtype != free) && in_use;
	return in_the_way == (event->error || event->granted != event->requested);
}

static bool observe_overlap(const struct probe_event *event, const struct probe_event *other)
{
	return event->start < other->end && event->end > other->start;
}

/*
 * Which of the events comes next: the one that returned first, unless there are others that had
 * been entered before it did, and so may have come before it. What a call that frees takes away may
 * be what one that was given another type, or refused, had in its way: that one comes first, if it
 * goes with the records now. One that got what it asked for goes with fewer records as well.
 */
static struct event *observe_next_event(void)
{
	struct event *oldest = list_first_entry(&events, struct event, node);
	struct event *event, *free = NULL, *fits = NULL;

	list_for_each_entry(event, &events, node) {
		if (event->what.entered > oldest->what.returned ||
		    !observe_overlap(&event->what, &oldest->what))
			continue;
		if (event->what.operation == PROBE_FREE) {
			free = free ?: event;
			continue;
		}
		if (!observe_goes_with_records(&event->what))
			continue;
		if (event == oldest || event->what.error || event->what.granted != event->what.requested)
			return event;
		fits = fits ?: event;
	}
	return free ?: fits ?: oldest;
}

static void observe_take_events(void)
{
	struct event *event;

	for (;;) {
		event = kmalloc(sizeof(*event), GFP_KERNEL);
		/* The ring keeps it, as long as it has room. */
		if (!event)
			return;
		if (!probe_take(&event->what))
			break;
		list_add_tail(&event->node, &events);
	}
	kfree(event);
}

bool observe_bring_up_to_date(u64 moment)
{
	u64 under_way = probe_under_way();
	struct event *event;

	/* In this order: what is entered and returns meanwhile is not among what may come next. */
	observe_take_events();
	while (!list_empty(&events)) {
		event = list_first_entry(&events, struct event, node);
		if (event->what.returned >= under_way)
			return event->what.returned >= moment;
		event = observe_next_event();
		list_del(&event->node);
		if (event->what.operation == PROBE_RESERVE)
			observe_reserved(&event->what);
		else
			observe_freed(&event->what);
		kfree(event);
	}
	return true;
}

int observe_update(void)
{
	ktime_t end = ktime_add_ms(ktime_get(), MOST_SECONDS * MSEC_PER_SEC);
	u64 now = probe_now();
	bool done;

	for (;;) {
		mutex_lock(&state_lock);
		done = observe_bring_up_to_date(now);
		mutex_unlock(&state_lock);
		if (done)
			return 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (ktime_after(ktime_get(), end))
			return -ETIMEDOUT;
		usleep_range(20, 100);
	}
}

static void observe_work_update(struct work_struct *work)
{
	observe_update();
}

static DECLARE_WORK(update_work, observe_work_update);

/* So that the ring never fills while nobody asks anything. */
static void observe_event_arrived(void)
{
	schedule_work(&update_work);
}

void observe_start(void)
{
	probe_start(observe_event_arrived);
}

static void observe_forget_after(struct list_head *last)
{
	struct observation *observation, *next;

	observation = list_entry(last, struct observation, node);
	list_for_each_entry_safe_continue(observation, next, &observations, node) {
		list_del(&observation->node);
		kfree(observation);
		observations_count--;
	}
}

void observe_forget_all(void)
{
	observe_forget_after(&observations);
}

void observe_stop(void)
{
	struct event *event, *next;

	probe_stop();
	cancel_work_sync(&update_work);
	list_for_each_entry_safe(event, next, &events, node)
		kfree(event);
	observe_forget_all();
}

void observe_forget(void)
{
	struct observation *observation;
	struct list_head *last_seed = &observations;

	mutex_lock(&state_lock);
	list_for_each_entry(observation, &observations, node)
		if (observation->what.seeded)
			last_seed = &observation->node;
	observe_forget_after(last_seed);
	observations_dropped = 0;
	mutex_unlock(&state_lock);
}

int observe_status(struct memtype_observation_status *status)
{
	mutex_lock(&state_lock);
	probe_status(status->probes);
	status->missed = probe_missed() + uncounted;
	status->dropped = observations_dropped;
	mutex_unlock(&state_lock);
	/* While one is under way the number isn't final, and seeding with it will be refused. */
	probe_sequence(&status->sequence);
	return 0;
}

int observe_list(struct memtype_observed *observed)
{
	struct observation *observation;
	struct memtype_observation *copies;
	u32 count = 0;
	int error = 0;

	if (observed->capacity > MOST_OBSERVATIONS)
		return -EINVAL;
	copies = kvcalloc(observed->capacity ?: 1, sizeof(*copies), GFP_KERNEL);
	if (!copies)
		return -ENOMEM;
	mutex_lock(&state_lock);
	list_for_each_entry(observation, &observations, node) {
		if (count < observed->capacity)
			copies[count] = observation->what;
		count++;
	}
	mutex_unlock(&state_lock);
	observed->count = count;
	if (copy_to_user(u64_to_user_ptr(observed->buffer), copies,
			 min(count, observed->capacity) * sizeof(*copies)))
		error = -EFAULT;
	kvfree(copies);
	return error;
}

int observe_set_armed(const struct memtype_observe *observe)
{
	int error;

	mutex_lock(&state_lock);
	error = probe_set_armed(observe->armed && !pauses);
	if (!error)
		probes_wanted = observe->armed;
	mutex_unlock(&state_lock);
	return error;
}

int observe_pause(void)
{
	int error;

	mutex_lock(&state_lock);
	error = probe_set_armed(false);
	if (!error)
		pauses++;
	mutex_unlock(&state_lock);
	return error;
}

int observe_resume(void)
{
	int error;

	mutex_lock(&state_lock);
	pauses--;
	error = probe_set_armed(probes_wanted && !pauses);
	mutex_unlock(&state_lock);
	return error;
}
