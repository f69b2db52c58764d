// Lines of the log as the server sends them, and the clock that plays them.

export function follow({ onLines, onState }) {
  let next = 0; // number of the line that is wanted
  let run = null; // which log it is: a server that was restarted may follow another one
  let source = null;
  let waitMs = 500;

  function connect() {
    source = new EventSource(`events?from=${next}`);
    source.addEventListener("log", (message) => {
      const about = JSON.parse(message.data);
      waitMs = 500;
      if (run !== null && about.run !== run) {
        run = about.run;
        next = 0;
        onLines([], true);
        source.close();
        connect();
        return;
      }
      run = about.run;
      onState("connected", about);
    });
    source.addEventListener("lines", (message) => {
      const lines = JSON.parse(message.data).filter((line) => line.seq >= next);
      if (!lines.length) return;
      next = lines[lines.length - 1].seq + 1;
      onLines(lines, false);
    });
    source.addEventListener("broken", (message) => onState("broken", JSON.parse(message.data)));
    source.onerror = () => {
      source.close();
      onState("away", null);
      setTimeout(connect, waitMs);
      waitMs = Math.min(2 * waitMs, 5000);
    };
  }

  connect();
}

export class Clock {
  constructor() {
    this.at = 0;
    this.speed = 1;
    this.playing = true;
    this.live = true; // stay at the newest line
    this.last = null;
    this.end = 0;
    this.idle = 0; // how long nothing new has come while it stays at the newest line
  }

  // Move by the time that has passed; `end` is the newest line's time.
  tick(now, end) {
    const passed = this.last === null ? 0 : (now - this.last) / 1000;
    this.last = now;
    this.idle = this.live && this.playing && end === this.end ? this.idle + passed : 0;
    this.end = end;
    if (this.live && this.playing) this.at = end;
    else if (this.playing) {
      this.at = Math.min(end, this.at + Math.min(passed, 0.25) * this.speed);
      if (this.at >= end) this.live = true;
    }
    return this.at;
  }

  seek(seconds, end) {
    this.at = Math.max(0, Math.min(seconds, end));
    this.live = false;
  }

  goLive() {
    this.live = true;
    this.playing = true;
  }
}
