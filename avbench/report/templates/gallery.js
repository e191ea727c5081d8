"use strict";
// The gallery: one clip at a time, its reference and every reconstruction under one clock. Texts reach the page as text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const [clipBox, metricBox, find, playButton, scrub, time, loop, message, trackBox] = [
    "clip", "metric", "find", "play", "scrub", "time", "loop", "message", "tracks",
  ].map(element);
  const FAR = 0.25; // seconds: beyond it a track is set anew, below it is sped up or slowed down until it is in step
  const PATIENCE = 20000; // milliseconds to wait for a file

  let clip = 0;
  let tracks = [];
  let playing = false;
  let starting = 0; // number of the latest start, so that an overtaken one gives up
  let soloed = "reference";
  let position = 0;
  const seen = {}; // run and side -> how far the walk through its extremes is

  function make(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // ---- what is shown

  function shown(metric, value) {
    if (value === null || value === undefined) return "n/a";
    const scaled = value * metric.scale;
    return metric.decimals === null ? String(Number(scaled.toPrecision(4))) : scaled.toFixed(metric.decimals);
  }

  function metricRows(cell) {
    const body = make("tbody");
    data.metrics.forEach((metric, k) => {
      if (cell.values[k] === null) return;
      const arrow = metric.up === null ? "" : metric.up ? " ↑" : " ↓";
      const title = [metric.title, metric.unit].filter(Boolean).join(" ") + arrow;
      body.append(make("tr", {}, make("th", { scope: "row", className: "text" }, title), make("td", {}, shown(metric, cell.values[k]))));
    });
    return make("table", {}, body);
  }

  function movie(name, title, picture) {
    const file = `${data.folder}/${clip}/${name}`;
    const video = make("video", { preload: "none", playsInline: true, muted: true, src: `${file}.mp4`, "aria-label": title });
    if (picture) video.poster = `${file}.jpg`;
    return video;
  }

  function spectrogram(name, title) {
    const cursor = make("div", { className: "cursor" });
    const image = make("img", { loading: "lazy", src: `${data.folder}/${clip}/${name}.png`, alt: `mel spectrogram of ${title}` });
    return [make("div", { className: "spectrogram" }, image, cursor), cursor];
  }

  function soloButton(key, title, sounds) {
    const button = make("button", { type: "button", disabled: !sounds, "aria-pressed": "false" }, sounds ? "♪ sound" : "no sound");
    button.setAttribute("aria-label", sounds ? `sound of ${title}` : `${title} has no sound`);
    button.addEventListener("click", () => solo(soloed === key ? null : key));
    return button;
  }

  function addTrack(key, title, heading, { picture, sounds, media, note, extra }) {
    const card = make("article", { className: key === "reference" ? "track real" : "track" }, make("h2", {}, heading));
    const track = { key, video: null, cursor: null, button: soloButton(key, title, media && sounds), sounds: media && sounds };
    if (media) {
      track.video = movie(key, title, picture);
      card.append(track.video);
      if (!picture) {
        track.video.className = "dark";
        card.append(make("small", {}, "sound only"));
      }
      if (sounds) {
        const [box, cursor] = spectrogram(key, title);
        card.append(box);
        track.cursor = cursor;
      }
    } else card.append(make("div", { className: "gone" }, note));
    const bar = make("div", { className: "bar" }, track.button, ...extra.buttons);
    card.append(bar, ...extra.below);
    tracks.push(track);
    trackBox.append(card);
  }

  function extremeButton(run, side) {
    const metric = Number(metricBox.value);
    const [worst, best] = data.extremes[run][metric] ?? [[], []];
    const list = side === "worst" ? worst : best;
    const label = data.runs[run].label;
    const title = data.metrics[metric]?.title ?? "";
    const button = make("button", { type: "button", disabled: !list.length }, side);
    button.setAttribute("aria-label", `${side} clip of ${label} by ${title}`);
    button.title = `${side} clip by ${title}; again: the next ${side}`;
    button.addEventListener("click", () => walk(run, side));
    return button;
  }

  function runTrack(run, number, cell) {
    const heading = make("span", {}, make("a", { href: run.page }, run.label), " ", make("small", {}, run.kind));
    const notes = {
      absent: () => ["This run does not have this clip."],
      failed: () => [make("span", {}, make("strong", { className: "failed" }, "⚠ failed: "), cell.reason)],
      numbers: () => [make("div", {}, "No media of this clip. They come from", make("pre", {}, run.command))],
      media: () => [""],
    };
    addTrack(String(number), run.label, heading, {
      picture: run.video,
      sounds: run.audio,
      media: cell.state === "media",
      note: notes[cell.state]()[0],
      extra: {
        buttons: [extremeButton(number, "worst"), extremeButton(number, "best")],
        below: cell.values ? [metricRows(cell)] : [],
      },
    });
  }

  function show(number, { keepHash = false } = {}) {
    pause();
    position = 0;
    clip = number;
    const item = data.clips[clip];
    trackBox.replaceChildren();
    tracks = [];
    const below = item.label ? [make("small", {}, `label: ${item.label}`)] : [];
    addTrack("reference", data.words.reference, data.words.reference, {
      picture: true, sounds: true, media: item.reference, note: "No run saved this clip.", extra: { buttons: [], below },
    });
    data.runs.forEach((run, k) => runTrack(run, k, item.runs[k]));
    if (clipBox.querySelector(`option[value="${clip}"]`) === null) fillClips("");
    clipBox.value = String(clip);
    solo(soloed);
    draw();
    say("");
    if (!keepHash) history.replaceState(null, "", `#clip=${clip}`);
  }

  function fillClips(needle) {
    const wanted = needle.trim().toLowerCase();
    clipBox.replaceChildren();
    data.clips.forEach((item, k) => {
      const text = item.reference ? item.name : `${item.name} (no media)`;
      if (text.toLowerCase().includes(wanted) || item.label.toLowerCase().includes(wanted)) clipBox.append(make("option", { value: String(k) }, text));
    });
    if (clipBox.querySelector(`option[value="${clip}"]`)) clipBox.value = String(clip);
  }

  function walk(run, side) {
    const metric = Number(metricBox.value);
    const [worst, best] = data.extremes[run][metric] ?? [[], []];
    const list = side === "worst" ? worst : best;
    if (!list.length) return;
    const key = `${run} ${metric} ${side}`;
    seen[key] = key in seen && seen.last === key ? (seen[key] + 1) % list.length : 0;
    seen.last = key;
    show(list[seen[key]]);
    const value = shown(data.metrics[metric], data.clips[clip].runs[run].values?.[metric]);
    say(`${side} clip number ${seen[key] + 1} of ${data.runs[run].label} by ${data.metrics[metric].title}: ${value}`);
    const again = tracks.find((track) => track.key === String(run));
    again?.button.parentElement.children[side === "worst" ? 1 : 2].focus({ preventScroll: true });
  }

  function say(text) {
    message.textContent = text;
  }

  // ---- one clock

  const movies = () => tracks.map((track) => track.video).filter((video) => video && !video.dataset.broken);
  const duration = () => Math.min(...movies().map((video) => video.duration || Infinity));

  function leader() {
    const own = tracks.find((track) => track.key === soloed)?.video;
    return own && !own.dataset.broken ? own : movies()[0];
  }

  function until(video, ready, events) {
    return new Promise((resolve) => {
      const timer = setTimeout(done, PATIENCE);
      function done() {
        clearTimeout(timer);
        for (const name of events) video.removeEventListener(name, check);
        video.removeEventListener("error", fail);
        resolve();
      }
      function check() {
        if (ready()) done();
      }
      function fail() {
        video.dataset.broken = "yes";
        done();
      }
      for (const name of events) video.addEventListener(name, check);
      video.addEventListener("error", fail);
      if (video.error) fail();
      else check();
    });
  }

  async function ready() {
    const waiting = movies().map((video) => {
      if (video.preload !== "auto") {
        video.preload = "auto";
        video.load();
      }
      return until(video, () => video.readyState >= 3, ["canplay", "canplaythrough", "loadeddata"]);
    });
    await Promise.all(waiting);
    const broken = tracks.filter((track) => track.video?.dataset.broken);
    say(broken.length ? `cannot be played here: ${broken.map((track) => data.runs[track.key]?.label ?? track.key).join(", ")}` : message.textContent);
  }

  async function place(seconds) {
    position = seconds;
    const moved = movies().filter((video) => Math.abs(video.currentTime - seconds) > 0.004);
    for (const video of moved) video.currentTime = seconds;
    await Promise.all(moved.map((video) => until(video, () => !video.seeking, ["seeked"])));
  }

  async function play() {
    if (!movies().length) return say("this clip has no media");
    const mine = ++starting;
    playButton.textContent = "… Loading";
    await ready();
    if (mine !== starting) return;
    await place(position >= duration() - 0.05 ? 0 : position);
    if (mine !== starting) return;
    playing = true;
    playButton.textContent = "❚❚ Pause";
    playButton.setAttribute("aria-pressed", "true");
    for (const video of movies()) video.playbackRate = 0; // all are started with their clocks held, then let go at once
    await Promise.allSettled(movies().map((video) => video.play()));
    if (mine !== starting) return;
    for (const video of movies()) video.playbackRate = 1;
    requestAnimationFrame(tick);
  }

  function pause() {
    starting += 1;
    playing = false;
    for (const video of movies()) video.pause();
    playButton.textContent = "▶ Play";
    playButton.setAttribute("aria-pressed", "false");
  }

  function keepStep(now) {
    for (const video of movies()) {
      if (video === leader() || video.ended || video.seeking) continue;
      const ahead = video.currentTime - now;
      if (Math.abs(ahead) > FAR) video.currentTime = now;
      const rate = Math.abs(ahead) < 0.008 ? 1 : Math.min(3, Math.max(0.25, 1 - 6 * ahead));
      const steps = Math.round(rate * 20) / 20; // a change of rate costs: not at every frame
      if (video.playbackRate !== steps) video.playbackRate = steps;
    }
  }

  function tick() {
    if (!playing) return;
    const first = leader();
    position = first.currentTime;
    if (first.playbackRate !== 1) first.playbackRate = 1;
    keepStep(position);
    draw();
    if (first.ended || position >= duration() - 0.02) {
      pause();
      position = 0;
      draw();
      if (loop.checked) play();
      return;
    }
    requestAnimationFrame(tick);
  }

  function draw() {
    const whole = duration();
    const share = Number.isFinite(whole) ? Math.min(1, position / whole) : 0;
    scrub.value = String(Math.round(1000 * share));
    scrub.setAttribute("aria-valuetext", `${position.toFixed(2)} seconds`);
    time.textContent = `${position.toFixed(2)} s`;
    for (const track of tracks) if (track.cursor) track.cursor.style.left = `${100 * share}%`;
  }

  function solo(key) {
    soloed = key;
    for (const track of tracks) {
      const mine = track.key === key && track.sounds;
      track.button.setAttribute("aria-pressed", String(mine));
      if (track.video) track.video.muted = !mine;
    }
  }

  async function seek(share) {
    const resume = playing;
    pause();
    const mine = starting;
    await ready();
    if (mine !== starting || !movies().length) return;
    await place(share * duration());
    draw();
    if (resume && mine === starting) play();
  }

  // ---- controls

  playButton.addEventListener("click", () => (playing ? pause() : play()));
  scrub.addEventListener("change", () => seek(Number(scrub.value) / 1000));
  clipBox.addEventListener("change", () => show(Number(clipBox.value)));
  metricBox.addEventListener("change", () => show(clip));
  find.addEventListener("input", () => fillClips(find.value));
  find.addEventListener("change", () => clipBox.options.length && clipBox.value !== String(clip) && show(Number(clipBox.value)));
  element("next").addEventListener("click", () => step(1));
  element("previous").addEventListener("click", () => step(-1));

  function step(by) {
    const options = [...clipBox.options];
    if (!options.length) return;
    const here = options.findIndex((option) => option.value === String(clip));
    show(Number(options[(here + by + options.length) % options.length].value));
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const onButton = event.target.closest("button, a, summary");
    const shift = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
    if (event.key === "k" || (event.key === " " && !onButton)) playing ? pause() : play();
    else if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else if (shift !== undefined) seek(Math.min(1, Math.max(0, (position + shift) / (Number.isFinite(duration()) ? duration() : 1))));
    else if (/^\d$/.test(event.key) && tracks[Number(event.key)]?.sounds) solo(tracks[Number(event.key)].key);
    else return;
    event.preventDefault();
  });

  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const [number, run, side] = [asked.get("clip"), asked.get("run"), asked.get("side")];
    if (run !== null && data.runs[Number(run)] && (side === "worst" || side === "best")) return walk(Number(run), side);
    if (number !== null && data.clips[Number(number)]) return show(Number(number), { keepHash: true });
    if (data.clips.length) show(Math.max(0, data.clips.findIndex((item) => item.reference)), { keepHash: true });
  }

  if (!data.clips.length) return;
  element("player").hidden = false;
  data.metrics.forEach((metric, k) => metric.up !== null && metricBox.append(make("option", { value: String(k) }, metric.title)));
  fillClips("");
  window.addEventListener("hashchange", follow);
  follow();
})();
