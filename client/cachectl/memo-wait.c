/* SPDX-License-Identifier: MIT */

/*
 * Waiting for somebody else's run
 *
 * The daemon says when there is a result, or that it is our turn. All there is to do meanwhile is
 * the spinner, and to see that it is a run of our own user: the key has the uid in it, so in a
 * realm that is shared another user can hold a lease for it only to hold us up.
 *
 * Signals do what they always do, which is to end us: there is no command yet that they could be
 * meant for. Only the line of the spinner has to go first.
 */

#include "memo-wait.h"

#include "run-spinner.h"
#include "units.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EVERY_MS 100
/* In a shared realm the holder is looked at anew after so long: who he is now need not be told. */
#define LOOK_MS   UINT64_C(30000)
#define TEXT_SIZE 256

static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
#define N_ENDING (sizeof(ending) / sizeof(ending[0]))

struct waiting {
        struct memo_wait *w;
        struct spinner spinner;
        char text[TEXT_SIZE];
        bool is_caught; /* signals are */
        struct sigaction before[N_ENDING];
};

static uint64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --------------------------------------------------------------------------------------- signals
 */

static void erase_and_end(int number)
{
        spinner_erase();
        /* Its disposition is the default one again, and it comes when this returns. */
        (void)raise(number);
}

/* Before anything is drawn for the first time. What is ignored stays ignored. */
static void catch_signals(struct waiting *wait)
{
        struct sigaction catch = {.sa_handler = erase_and_end, .sa_flags = SA_RESETHAND};

        (void)sigemptyset(&catch.sa_mask);
        for (size_t i = 0; i < N_ENDING; i++)
                if (sigaction(ending[i], NULL, &wait->before[i]) == 0 &&
                    wait->before[i].sa_handler == SIG_DFL)
                        (void)sigaction(ending[i], &catch, NULL);
        wait->is_caught = true;
}

static void release_signals(struct waiting *wait)
{
        for (size_t i = 0; wait->is_caught && i < N_ENDING; i++)
                (void)sigaction(ending[i], &wait->before[i], NULL);
        wait->is_caught = false;
}

/* ----------------------------------------------------------------------------------- meanwhile */

static void note_holder(struct memo_wait *w, const cached_lease *holder)
{
        char age[UNITS_BUFFER_SIZE];

        if (w->verbose)
                ctl_note(w->ctl, "waiting for pid %u, which has run it for %s",
                         (unsigned)cached_lease_holder_pid(holder),
                         units_format_ms(age, cached_lease_age_ms(holder)));
}

/* A cached_waiting. */
static int on_waiting(void *data, const cached_lease *holder)
{
        struct waiting *wait = data;
        struct memo_wait *w = wait->w;
        uint32_t pid = cached_lease_holder_pid(holder);
        char age[UNITS_BUFFER_SIZE];

        if (pid && cached_lease_holder_uid(holder) != w->cache->uid)
                return 1;
        if (pid && pid != w->pid) {
                w->pid = pid;
                note_holder(w, holder);
        }
        if (pid)
                (void)snprintf(wait->text, sizeof(wait->text),
                               "waiting for pid %u (running %s): %s", (unsigned)pid,
                               units_format_ms(age, cached_lease_age_ms(holder)), w->title);
        if (!wait->is_caught && spinner_timeout_ms(&wait->spinner) == 0)
                catch_signals(wait);
        spinner_tick(&wait->spinner);
        return 0;
}

static bool is_shared_realm(const struct ctl *ctl)
{
        return ctl->realm != NULL;
}

static cached_lease_options *options_new(struct waiting *wait, uint64_t wait_ms)
{
        cached_lease_options *o = cached_lease_options_new();
        const struct memo_wait *w = wait->w;
        bool watches = wait->spinner.on || w->verbose || is_shared_realm(w->ctl);
        int r;

        if (!o)
                return NULL;
        r = cached_lease_options_set_wait_ms(o, wait_ms);
        /* What failed there would most likely fail here, too. Who waited for it runs it at once,
         * and not one after the other. */
        if (r == CACHED_OK)
                r = cached_lease_options_set_want_failure(o, 1);
        if (r == CACHED_OK)
                r = cached_lease_options_set_refresh(o, w->refresh);
        if (r == CACHED_OK && watches)
                r = cached_lease_options_set_waiting(o, on_waiting, wait,
                                                     wait->spinner.on ? EVERY_MS : 0);
        if (r == CACHED_OK)
                return o;
        cached_lease_options_free(o);
        return NULL;
}

/* Once. True: it is to be asked again. */
static bool ask(struct waiting *wait, uint64_t *left_ms, cached_reply **ret,
                cached_lease **ret_lease)
{
        struct memo_wait *w = wait->w;
        uint64_t ms = *left_ms;
        cached_lease_options *o;

        if (is_shared_realm(w->ctl) && ms > LOOK_MS)
                ms = LOOK_MS;
        if (*left_ms != CACHED_NEVER)
                *left_ms -= ms;
        o = options_new(wait, ms);
        memo_cache_ask(w->cache, w->key, o, ret, ret_lease);
        cached_lease_options_free(o);
        return ms == LOOK_MS && *left_ms > 0 &&
               cached_lease_state(*ret_lease) == CACHED_LEASE_TIMEOUT;
}

void memo_wait(struct memo_wait *w, cached_reply **ret, cached_lease **ret_lease)
{
        struct waiting wait = {.w = w, .text = ""};
        uint64_t left_ms = w->wait_ms, started_ms = now_ms();

        w->pid = 0;
        *ret = NULL;
        *ret_lease = NULL;
        spinner_init(&wait.spinner, !w->quiet, wait.text);
        while (ask(&wait, &left_ms, ret, ret_lease)) {
                cached_reply_free(*ret);
                cached_lease_free(*ret_lease);
        }
        spinner_end(&wait.spinner);
        release_signals(&wait);
        w->waited_ms = now_ms() - started_ms;
}

void memo_wait_tell(const struct ctl *ctl, cached_lease *lease, char **argv, const char *title)
{
        const char *slash = strrchr(argv[0], '/');

        /* Others of a shared realm see it, and arguments are none of their business. */
        if (is_shared_realm(ctl))
                title = slash && slash[1] ? slash + 1 : argv[0];
        (void)cached_lease_progress(lease, title, 0);
}
