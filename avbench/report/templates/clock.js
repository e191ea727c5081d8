"use strict";
// One clock for many pictures and one sound. Pictures have no sound track of their own, so the browser runs them all by the same
// clock: started at once, they stay together. The sound that is heard runs by the sound device's clock and follows the first picture.
// Corrections are small changes of rate, and few: a starved browser carries a change out late, and a big one would overshoot.
class Clock {
  static PICTURE = { slack: 0.015, most: 0.2, far: 0.2 }; // seconds off that are left alone; change of rate; seconds off to be set anew
  static SOUND = { slack: 0.025, most: 0.1, far: 0.15 };
  static LAG = 0.03; // seconds that the sound is let run ahead at the start: its clock stalls once more after its first step
  static PATIENCE = 20000; // milliseconds to wait for a file
  static SILENCE = 1500; // milliseconds that the sound may take to start before the pictures go on without it

  constructor({ moved, changed, failed }) {
    Object.assign(this, { moved, changed, failed });
    this.tracks = [];
    this.soloed = null;
    this.playing = false;
    this.position = 0;
    this.start = 0; // number of the latest start or stop: what was begun before it gives up
  }

  set(tracks) {
    this.pause();
    this.tracks = tracks;
    this.position = 0;
    this.moved();
  }

  pictures() {
    return this.tracks.map((track) => track.video).filter((video) => video && !video.dataset.broken);
  }

  sound() {
    const audio = this.tracks.find((track) => track.key === this.soloed)?.audio;
    return audio && !audio.dataset.broken ? audio : null;
  }

  media() {
    const sound = this.sound();
    return sound ? [...this.pictures(), sound] : this.pictures();
  }

  get duration() {
    return Math.min(...this.media().map((medium) => medium.duration || Infinity));
  }

  leader() {
    return this.pictures()[0] ?? this.sound();
  }

  async solo(key) {
    const before = this.sound();
    this.soloed = key;
    const sound = this.sound();
    if (before === sound) return;
    before?.pause();
    if (!this.playing || !sound) return;
    const mine = this.start;
    await this.ready();
    if (mine !== this.start || this.sound() !== sound) return;
    sound.currentTime = this.position;
    sound.play().catch(() => {});
  }

  async play() {
    const mine = ++this.start;
    this.changed("loading");
    await this.ready();
    if (mine !== this.start) return;
    if (!this.media().length) return this.changed("paused");
    await this.place(this.position >= this.duration - 0.05 ? 0 : this.position);
    if (mine !== this.start) return;
    for (const video of this.pictures()) video.playbackRate = 0; // started with their clocks held, let go when the sound moves
    this.playing = true;
    this.held = true;
    this.begun = performance.now();
    await Promise.allSettled(this.media().map((medium) => medium.play()));
    if (mine !== this.start) return;
    this.changed("playing");
    requestAnimationFrame(() => this.tick(mine));
  }

  pause() {
    this.start += 1;
    this.playing = false;
    for (const track of this.tracks) for (const medium of [track.video, track.audio]) medium?.pause();
    this.changed("paused");
  }

  async seek(seconds) {
    const resume = this.playing;
    this.pause();
    const mine = this.start;
    await this.ready();
    if (mine !== this.start || !this.media().length) return;
    await this.place(Math.min(Math.max(seconds, 0), this.duration - 0.01));
    if (mine !== this.start) return;
    this.moved();
    if (resume) this.play();
  }

  tick(mine) {
    if (mine !== this.start) return;
    const leader = this.leader();
    const sound = this.sound();
    const late = performance.now() - this.begun > Clock.SILENCE;
    if (this.held && (!sound || sound.currentTime > this.position + Clock.LAG || late)) {
      this.held = false;
      for (const video of this.pictures()) video.playbackRate = 1;
    }
    if (!this.held) {
      this.position = leader.currentTime;
      this.keepStep(leader);
      this.moved();
      if (leader.ended || this.position >= this.duration - 0.02) return this.finish();
    }
    requestAnimationFrame(() => this.tick(mine));
  }

  keepStep(leader) {
    const sound = this.sound();
    for (const medium of this.media()) {
      if (medium === leader || medium.ended || medium.seeking || medium.paused) continue;
      const { slack, most, far } = medium === sound ? Clock.SOUND : Clock.PICTURE;
      const ahead = medium.currentTime - leader.currentTime;
      if (Math.abs(ahead) > far) medium.currentTime = leader.currentTime;
      const settled = Math.abs(ahead) < (medium.playbackRate === 1 ? slack : slack / 3);
      const rate = settled ? 1 : 1 - Math.sign(ahead) * most;
      if (medium.playbackRate !== rate) medium.playbackRate = rate;
    }
  }

  finish() {
    this.pause();
    this.position = 0;
    this.moved();
    this.changed("ended");
  }

  async ready() {
    const waiting = this.media().map((medium) => {
      if (medium.preload !== "auto") {
        medium.preload = "auto";
        medium.load();
      }
      return this.until(medium, () => medium.readyState >= 3, ["canplay", "canplaythrough", "loadeddata"]);
    });
    await Promise.all(waiting);
  }

  async place(seconds) {
    this.position = seconds;
    const moved = this.media().filter((medium) => Math.abs(medium.currentTime - seconds) > 0.004);
    for (const medium of moved) medium.currentTime = seconds;
    await Promise.all(moved.map((medium) => this.until(medium, () => !medium.seeking, ["seeked"])));
  }

  until(medium, ready, events) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        for (const name of events) medium.removeEventListener(name, check);
        medium.removeEventListener("error", fail);
        resolve();
      };
      const check = () => ready() && done();
      const fail = () => {
        medium.dataset.broken = "yes";
        this.failed(medium);
        done();
      };
      const timer = setTimeout(done, Clock.PATIENCE);
      for (const name of events) medium.addEventListener(name, check);
      medium.addEventListener("error", fail);
      if (medium.error) fail();
      else check();
    });
  }
}
