"use strict";
// The gallery: one clip at a time, its own cards (reference; or condition and real clip) and every row's under one clock. Texts reach
// the page as text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const [clipBox, metricBox, find, playButton, scrub, time, loop, message, trackBox] = [
    "clip", "metric", "find", "play", "scrub", "time", "loop", "message", "tracks",
  ].map(element);
  let clip = 0;
  let tracks = [];
  let dragging = false;
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

  function movie(file, title) {
    return make("video", { preload: "none", playsInline: true, muted: true, src: `${file}.mp4`, poster: `${file}.jpg`, "aria-label": title });
  }

  function spectrogram(file, title) {
    const cursor = make("div", { className: "cursor" });
    const image = make("img", { loading: "lazy", src: `${file}.png`, alt: `mel spectrogram of ${title}` });
    return [make("div", { className: "spectrogram" }, image, cursor), cursor];
  }

  function soloButton(key, title, sounds) {
    const button = make("button", { type: "button", disabled: !sounds, "aria-pressed": "false" }, sounds ? "♪ sound" : "no sound");
    button.setAttribute("aria-label", sounds ? `sound of ${title}` : `${title} has no sound`);
    button.addEventListener("click", () => solo(clock.soloed === key ? null : key));
    return button;
  }

  // shows: what such a card has when nothing is missing; its media are media/<clip>/<name>.mp4, .flac, ...; note: told instead of media
  function addTrack(key, title, heading, { name = key, kind = "", shows, picture, sounds, media, note, extra }) {
    const card = make("article", { className: `track ${kind}`.trim() }, make("h2", {}, heading));
    const file = `${data.folder}/${clip}/${name}`;
    const track = { key, title, video: null, audio: null, cursor: null, button: soloButton(key, title, media && sounds) };
    track.button.hidden = !shows.sound && !(media && sounds);
    if (media && picture) track.video = movie(file, title);
    if (track.video) card.append(track.video);
    else if (!media || shows.picture) card.append(make("div", { className: "gone" }, media ? "sound only" : note));
    if (media && sounds) {
      const [box, cursor] = spectrogram(file, title);
      track.audio = make("audio", { preload: "none", src: `${file}.flac` });
      track.cursor = cursor;
      card.append(box, track.audio);
    }
    const bar = make("div", { className: "bar" }, track.button, ...extra.buttons);
    card.append(bar, ...extra.below);
    tracks.push(track);
    trackBox.append(card);
  }

  // The run's worst or best clips by the metric that is chosen, or by its first one: a tokenizer of sound alone has no PSNR.
  function extremes(run, side) {
    const lists = data.extremes[run].map(([worst, best]) => (side === "worst" ? worst : best));
    const chosen = Number(metricBox.value);
    const metric = lists[chosen]?.length ? chosen : lists.findIndex((list) => list.length);
    return [metric, lists[metric] ?? []];
  }

  function extremeButton(run, side) {
    const [metric, list] = extremes(run, side);
    const label = data.runs[run].label;
    const title = data.metrics[metric]?.title ?? "";
    const button = make("button", { type: "button", disabled: !list.length, hidden: !metricBox.options.length }, side);
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
      numbers: () => [make("details", {}, make("summary", {}, "No media; they come from …"), make("pre", {}, run.command))],
      media: () => [""],
    };
    addTrack(String(number), run.label, heading, {
      shows: data.shows,
      picture: cell.picture,
      sounds: cell.sound,
      media: cell.state === "media",
      note: notes[cell.state]()[0],
      extra: {
        buttons: [extremeButton(number, "worst"), extremeButton(number, "best")],
        below: cell.values ? [metricRows(cell)] : [],
      },
    });
  }

  // The clip's own cards; its label stands on the first one.
  function clipTrack(card, place, item) {
    const word = card.key === "reference" ? "label" : "class";
    const below = place === 0 && item.label && !card.says ? [make("small", {}, `${word}: ${item.label}`)] : [];
    const said = card.says ? make("strong", {}, item[card.says] || "no class is stated") : "No run saved this clip.";
    addTrack(card.key, card.title, card.title, {
      name: "reference", kind: card.key === "reference" ? "real" : "given", shows: card, picture: card.picture, sounds: card.sound,
      media: item.reference && !card.says, note: said, extra: { buttons: [], below },
    });
  }

  function show(number, { keepHash = false } = {}) {
    clock.set([]);
    clip = number;
    const item = data.clips[clip];
    trackBox.replaceChildren();
    tracks = [];
    data.cards.forEach((card, k) => clipTrack(card, k, item));
    data.runs.forEach((run, k) => runTrack(run, k, item.runs[k]));
    if (clipBox.querySelector(`option[value="${clip}"]`) === null) fillClips("");
    clipBox.value = String(clip);
    clock.set(tracks);
    solo(clock.soloed);
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
    const [metric, list] = extremes(run, side);
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

  // ---- what the clock tells

  const faces = { loading: "… Loading", playing: "❚❚ Pause", paused: "▶ Play", ended: "▶ Play" };

  function changed(state) {
    playButton.textContent = faces[state];
    playButton.setAttribute("aria-pressed", String(state === "playing" || state === "loading"));
    if (state === "ended" && loop.checked) clock.play();
  }

  function failed(medium) {
    const track = tracks.find(({ video, audio }) => video === medium || audio === medium);
    say(`${medium === track?.video ? "picture" : "sound"} of ${track?.title} cannot be played here`);
  }

  function moved() {
    const share = Number.isFinite(clock.duration) ? Math.min(1, clock.position / clock.duration) : 0;
    if (!dragging) scrub.value = String(Math.round(1000 * share));
    scrub.setAttribute("aria-valuetext", `${clock.position.toFixed(2)} seconds`);
    time.textContent = `${clock.position.toFixed(2)} s`;
    for (const track of tracks) if (track.cursor) track.cursor.style.left = `${100 * share}%`;
  }

  function solo(key) {
    for (const track of tracks) track.button.setAttribute("aria-pressed", String(track.key === key && track.audio !== null));
    clock.solo(key);
  }

  const toggle = () => (playButton.getAttribute("aria-pressed") === "true" ? clock.pause() : clock.play());

  // ---- controls

  playButton.addEventListener("click", toggle);
  scrub.addEventListener("input", () => (dragging = true));
  scrub.addEventListener("change", async () => {
    dragging = false;
    const share = Number(scrub.value) / 1000;
    await clock.ready();
    clock.seek(share * clock.duration);
  });
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
    if (event.key === "k" || (event.key === " " && !onButton)) toggle();
    else if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else if (shift !== undefined) clock.seek(clock.position + shift);
    else if (/^\d$/.test(event.key) && tracks[Number(event.key)]?.audio) solo(tracks[Number(event.key)].key);
    else return;
    event.preventDefault();
  });

  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const [number, run, side] = [asked.get("clip"), asked.get("run"), asked.get("side")];
    const extreme = run !== null && data.runs[Number(run)] && (side === "worst" || side === "best");
    if (extreme && extremes(Number(run), side)[1].length) return walk(Number(run), side);
    if (number !== null && data.clips[Number(number)]) return show(Number(number), { keepHash: true });
    if (data.clips.length) show(Math.max(0, data.clips.findIndex((item) => item.reference)), { keepHash: true });
  }

  const clock = new Clock({ moved, changed, failed });
  clock.soloed = data.cards.find((card) => card.sound)?.key ?? null;
  if (!data.clips.length) return;
  element("player").hidden = false;
  data.metrics.forEach((metric, k) => metric.up !== null && metricBox.append(make("option", { value: String(k) }, metric.title)));
  metricBox.parentElement.hidden = !metricBox.options.length; // no metric tells clips apart
  fillClips("");
  window.addEventListener("hashchange", follow);
  follow();
})();
