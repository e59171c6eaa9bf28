// The live connection: the state as server-sent events, with back-off, and a check that silence is
// quiet and not a dead line. Must never leave the page believing that old data are new.

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;
const QUIET = 15000; // nothing heard for so long: ask
const PATIENCE = 5000; // for that answer

export class Stream {
    // `on`: state(object), live(), lost({retryAt}), signedOut()
    constructor(on) {
        this.on = on;
        this.pause = FIRST_PAUSE;
        this.heard = 0;
        setInterval(() => this.#check(), 1000);
        addEventListener('online', () => this.#waiting() && this.connect());
        document.addEventListener('visibilitychange',
                                  () => !document.hidden && this.#waiting() && this.connect());
    }

    // Asks once with fetch, whose status an EventSource does not tell, then listens.
    async connect() {
        this.close();
        const attempt = this.attempt = Symbol();
        let state;
        try {
            state = await this.#ask();
        } catch {
            if (attempt === this.attempt)
                this.#lost();
            return;
        }
        if (attempt !== this.attempt)
            return;
        if (state === null) {
            this.on.signedOut();
            return;
        }
        this.#take(state);
        this.#listen();
    }

    close() {
        this.attempt = null;
        clearTimeout(this.timer);
        this.timer = null;
        this.source?.close();
        this.source = null;
    }

    #waiting() {
        return this.timer !== null && this.timer !== undefined;
    }

    // The state; null when this browser is not signed in.
    async #ask() {
        const reply = await fetch('/v1/admin/state', {
            cache: 'no-store',
            credentials: 'same-origin',
            signal: AbortSignal.timeout(PATIENCE),
        });
        if (reply.status === 401 || reply.status === 403)
            return null;
        if (!reply.ok)
            throw new Error(`status ${reply.status}`);
        return reply.json();
    }

    #listen() {
        const source = this.source = new EventSource('/v1/admin/stream');
        source.addEventListener('open', () => this.#live());
        source.addEventListener('state', (event) => {
            this.#live();
            this.#take(JSON.parse(event.data));
        });
        source.addEventListener('error', () => source === this.source && this.#lost());
    }

    #take(state) {
        this.heard = Date.now();
        this.on.state(state);
    }

    #live() {
        this.pause = FIRST_PAUSE;
        this.heard = Date.now();
        this.on.live();
    }

    #lost() {
        this.close();
        const wait = this.pause * (0.75 + Math.random() / 2);
        this.pause = Math.min(LONGEST_PAUSE, 2 * this.pause);
        this.timer = setTimeout(() => this.connect(), wait);
        this.on.lost({retryAt: Date.now() + wait});
    }

    async #check() {
        if (!this.source || this.checking || Date.now() - this.heard < QUIET)
            return;
        const source = this.source;
        this.checking = true;
        try {
            const state = await this.#ask();
            if (source === this.source)
                state === null ? this.on.signedOut() : this.#take(state);
        } catch {
            if (source === this.source)
                this.#lost();
        } finally {
            this.checking = false;
        }
    }
}
