// The page on which a person looks at the galaxies of a queue and gives verdicts. Object ids are text throughout:
// numbers of JavaScript are exact only up to 2^53.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const queue = JSON.parse(byId("queue").textContent);
  const total = queue.ids.length;
  const indexOf = new Map(queue.ids.map((id, index) => [id, index]));
  const COLUMNS = ["object_id", "verdict", "reviewer", "time", "queue", "release", "model_id", "position", "prediction_shown"];
  const COLOURS = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999"];
  const [BEHIND, AHEAD] = [2, 4]; // pictures around this one that are kept
  const RETRY_MS = 5000;
  const MAX_SENT = 500; // verdicts in one request
  const [CAPTION_PX, OPTIONS_PX] = [24, 56]; // of the grid
  const LISTED = 50; // galaxies in a report

  const titleOf = (verdict) => queue.titles[verdict] || verdict.replaceAll("_", " ");
  const colourOf = (verdict) => COLOURS[queue.verdicts.indexOf(verdict) % COLOURS.length];
  const count = (number, noun, plural = `${noun}s`) => `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;

  // Builds an element; text becomes text nodes, never markup.
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  };
  const say = (text) => {
    byId("status").textContent = text;
  };
  const notices = new Map();
  const notice = (name, text) => {
    if ((notices.get(name) || "") === text) return;
    notices.set(name, text);
    const shown = [...notices.values()].filter(Boolean);
    byId("notices").replaceChildren(...shown.map((line) => element("p", { class: "notice" }, line)));
  };

  // ---- What the browser keeps: one item for each verdict, so that two tabs do not overwrite each other.

  const PREFIX = `galaxy_batch.review.${queue.identity}.`;
  const storage = (() => {
    try {
      const probe = `${PREFIX}probe`;
      localStorage.setItem(probe, "1");
      localStorage.removeItem(probe);
      return localStorage;
    } catch {
      return null;
    }
  })();
  const keep = (key, value) => {
    if (!storage) return;
    try {
      storage.setItem(PREFIX + key, JSON.stringify(value));
      notice("storage", "");
    } catch (error) {
      notice("storage", `The browser cannot keep verdicts (${error.name}): export them before you close this page.`);
    }
  };
  const kept = (key, otherwise) => {
    const text = storage && storage.getItem(PREFIX + key);
    if (!text) return otherwise;
    try {
      return JSON.parse(text);
    } catch {
      return otherwise;
    }
  };

  // ---- Verdicts: of each galaxy by reviewer. An empty verdict is one that was taken back.

  let reviewer = String(kept("reviewer", ""));
  const given = new Map(); // index -> Map of reviewer -> {verdict, time, shown}
  const tally = new Map(); // of this reviewer, by verdict
  let unsaved = false;

  const own = (index) => {
    const entry = given.get(index)?.get(reviewer);
    return entry && entry.verdict ? entry : null;
  };
  const recount = () => {
    tally.clear();
    for (const index of given.keys()) {
      const entry = own(index);
      if (entry) tally.set(entry.verdict, (tally.get(entry.verdict) || 0) + 1);
    }
  };
  const put = (index, name, entry, { keeping = true, sending = true } = {}) => {
    if (!given.has(index)) given.set(index, new Map());
    const before = own(index);
    given.get(index).set(name, entry);
    const after = own(index);
    if (before) tally.set(before.verdict, tally.get(before.verdict) - 1);
    if (after) tally.set(after.verdict, (tally.get(after.verdict) || 0) + 1);
    if (keeping) keep(`verdict.${index}.${name}`, entry);
    if (sending) send(index, name);
  };
  const isEntry = (entry) =>
    Boolean(entry) && typeof entry.time === "string" && (entry.verdict === "" || queue.verdicts.includes(entry.verdict));
  const take = (key) => {
    const [, index, name] = /^verdict\.(\d+)\.(.*)$/su.exec(key.slice(PREFIX.length)) || [];
    const entry = index === undefined ? null : kept(key.slice(PREFIX.length), null);
    if (isEntry(entry) && Number(index) < total) put(Number(index), name, entry, { keeping: false, sending: false });
  };
  const allVerdicts = () => {
    const rows = [];
    for (const index of [...given.keys()].sort((a, b) => a - b)) {
      for (const [name, entry] of given.get(index)) if (entry.verdict) rows.push([index, name, entry]);
    }
    return rows;
  };
  const now = () => `${new Date().toISOString().slice(0, 19)}Z`;

  // ---- The server of `--serve`, where there is one: each verdict is sent, again where that fails.

  let served = false;
  let sentBefore = false; // whether the server has answered
  let sending = false;
  let retry = 0;
  const unsent = new Map(); // key -> [index, reviewer]

  const send = (index, name) => {
    if (!served) {
      unsaved = true;
      return;
    }
    unsent.set(`${index}.${name}`, [index, name]);
    flush();
  };
  const later = (action) => {
    clearTimeout(retry);
    retry = setTimeout(action, RETRY_MS);
  };
  const flush = async () => {
    if (sending || !served || !unsent.size) return;
    sending = true;
    const batch = [...unsent].slice(0, MAX_SENT);
    const rows = batch.map(([, [index, name]]) => {
      const entry = given.get(index).get(name);
      return { object_id: queue.ids[index], reviewer: name, ...entry };
    });
    for (const [key] of batch) unsent.delete(key);
    try {
      const answer = await fetch("verdicts", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ identity: queue.identity, verdicts: rows }),
      });
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      notice("server", "");
    } catch (error) {
      for (const [key, value] of batch) unsent.set(key, value);
      const where = storage ? "kept in this browser" : "NOT kept by this browser: export them";
      notice("server", `The server does not take verdicts (${error.message}). ${count(unsent.size, "verdict")} ` +
        `${unsent.size === 1 ? "is" : "are"} ${where}, and will be sent again.`);
      later(flush);
      sending = false;
      return;
    }
    sending = false;
    flush();
  };
  const connect = async () => {
    if (!location.protocol.startsWith("http")) return;
    let answer;
    try {
      answer = await fetch("verdicts", { headers: { Accept: "application/json" } });
      if (answer.status === 404) return; // a server that only shows files
      if (!answer.ok) throw new Error(String(answer.status));
      answer = await answer.json();
    } catch (error) {
      notice("server", `The server does not answer (${error.message}); it is asked again.`);
      later(connect);
      return;
    }
    if (answer.identity !== queue.identity) {
      notice("server", "The server serves another queue now: load this page again.");
      return;
    }
    served = true;
    notice("server", "");
    notice("storage", "");
    merge(answer);
    refresh();
  };
  // Takes what the server has where it is newer, and sends what is newer here.
  const merge = (answer) => {
    const known = new Map();
    for (const { object_id: id, reviewer: name, ...entry } of answer.verdicts) {
      const index = indexOf.get(id);
      if (index === undefined || !isEntry(entry)) continue;
      known.set(`${index}.${name}`, entry);
      const here = given.get(index)?.get(name);
      if (!here || here.time < entry.time) put(index, name, entry, { sending: false });
    }
    for (const [index, names] of given) {
      for (const [name, entry] of names) {
        const there = known.get(`${index}.${name}`);
        const differs = there ? there.time < entry.time || there.verdict !== entry.verdict : entry.verdict;
        if (differs) unsent.set(`${index}.${name}`, [index, name]);
      }
    }
    flush();
  };

  // ---- Where we are: a list of galaxies (all, or those of the filter) and a place in it.

  let list = Array.from({ length: total }, (_, index) => index);
  let place = Math.min(Number(kept("place", 0)) || 0, Math.max(total - 1, 0));
  let inGrid = Boolean(kept("grid", false));
  let shown = new Set(kept("shown", [])); // galaxies whose prediction was shown
  let revealed = -1; // the galaxy whose prediction is shown now
  const here = () => list[place];

  const contradicted = (index) => {
    const verdicts = new Set([...(given.get(index)?.values() || [])].map((entry) => entry.verdict));
    verdicts.delete("");
    return verdicts.size > 1;
  };
  const FILTERS = [
    ["all", "all", () => true],
    ["open", "without a verdict", (index) => !own(index)],
    ...queue.verdicts.map((verdict) => [`=${verdict}`, titleOf(verdict), (index) => own(index)?.verdict === verdict]),
    ["contradictions", "contradictions", contradicted],
  ];
  const applyFilter = (name) => {
    const [, title, passes] = FILTERS.find(([key]) => key === name);
    const index = here();
    const passing = Array.from({ length: total }, (_, number) => number).filter(passes);
    byId("filter").value = passing.length ? name : "all";
    list = passing.length ? passing : Array.from({ length: total }, (_, number) => number);
    const at = list.findIndex((number) => number >= index);
    place = at < 0 ? 0 : at;
    refresh();
    say(passing.length ? `Showing ${count(passing.length, "galaxy", "galaxies")}: ${title}` : `None: ${title}`);
  };
  const goTo = (to, { focus = false } = {}) => {
    place = Math.max(0, Math.min(list.length - 1, to));
    keep("place", here());
    refresh({ focus });
  };
  const step = (by) => {
    if (place + by < 0 || place + by >= list.length) {
      say(by > 0 ? "This is the last galaxy." : "This is the first galaxy.");
      if (Math.abs(by) === 1) return;
    }
    goTo(place + by, { focus: inGrid });
  };
  const nextOpen = () => {
    for (let by = 1; by <= list.length; by += 1) {
      const to = (place + by) % list.length;
      if (!own(list[to])) {
        goTo(to, { focus: inGrid });
        return;
      }
    }
    say("Every galaxy has a verdict.");
  };
  const jump = (text) => {
    const wanted = text.trim();
    let index = indexOf.get(wanted);
    if (index === undefined && /^\d{1,7}$/u.test(wanted) && Number(wanted) >= 1 && Number(wanted) <= total) {
      index = Number(wanted) - 1;
    }
    if (index === undefined) {
      say(`There is no galaxy ${wanted} in this queue.`);
      notice("jump", `There is no galaxy ${wanted} in this queue.`);
      return;
    }
    notice("jump", "");
    if (!list.includes(index)) applyFilter("all");
    goTo(list.indexOf(index));
    byId("main").focus();
  };

  // ---- Giving verdicts, and taking them back.

  const undone = []; // of this session: {place, name, changes: [[index, entry before]]}
  const change = (indexes, verdict) => {
    const changes = indexes.map((index) => [index, given.get(index)?.get(reviewer)]);
    undone.push({ index: here(), name: reviewer, changes });
    for (const index of indexes) put(index, reviewer, { verdict, time: now(), shown: shown.has(index) });
    progress();
  };
  const judge = (verdict) => {
    if (!list.length) return;
    change([here()], verdict);
    const said = `${titleOf(verdict)}: galaxy ${here() + 1}.`;
    if (byId("advance").checked && place + 1 < list.length) goTo(place + 1, { focus: inGrid });
    else refresh();
    say(`${said} ${inGrid ? "" : heading()}${place + 1 === list.length ? " The last galaxy." : ""}`);
  };
  const clear = () => {
    if (!own(here())) return;
    change([here()], "");
    refresh();
    say(`No verdict: galaxy ${here() + 1}.`);
  };
  const judgeRest = (verdict) => {
    const open = pageOf(place).map((at) => list[at]).filter((index) => !own(index));
    if (!open.length) return;
    change(open, verdict);
    refresh();
    say(`${titleOf(verdict)}: ${count(open.length, "galaxy", "galaxies")} of this page.`);
  };
  const undo = () => {
    const last = undone.pop();
    if (!last) {
      say("Nothing to undo.");
      return;
    }
    for (const [index, before] of last.changes) {
      put(index, last.name, { ...(before || { verdict: "", shown: false }), time: now() });
    }
    if (!list.includes(last.index)) applyFilter("all");
    goTo(list.indexOf(last.index), { focus: inGrid });
    say(`Undone: ${count(last.changes.length, "verdict")}.`);
  };

  // ---- One galaxy.

  const heading = () => {
    const of = list.length === total ? "" : ` (${place + 1} of ${list.length.toLocaleString("en")} shown)`;
    return list.length ? `Galaxy ${here() + 1} of ${total.toLocaleString("en")}${of}` : "No galaxies in this queue";
  };
  const fillLink = (template, index) => {
    const values = {
      object_id: encodeURIComponent(queue.ids[index]),
      ra: queue.ra[index] === null ? null : queue.ra[index].toFixed(6),
      dec: queue.dec[index] === null ? null : queue.dec[index].toFixed(6),
    };
    const names = [...template.matchAll(/\{(ra|dec|object_id)\}/gu)].map(([, name]) => name);
    if (names.some((name) => values[name] === null)) return null;
    return template.replace(/\{\{|\}\}|\{(ra|dec|object_id)\}/gu, (text, name) => (name ? values[name] : text[0]));
  };
  const showMissing = (text) => {
    byId("missing").textContent = text;
    byId("missing").hidden = !text;
    byId("layers").style.visibility = text ? "hidden" : "";
  };
  const isCurrent = (image) => image.id === "picture";
  const unreadable = (image) => showMissing(`The picture’s file cannot be read: ${image.getAttribute("src")}`);
  const newImage = (path) => {
    const image = new Image();
    image.draggable = false;
    image.addEventListener("load", () => isCurrent(image) && placeOverlay());
    image.addEventListener("error", () => {
      image.dataset.broken = "yes";
      if (isCurrent(image)) unreadable(image);
    });
    image.src = path;
    image.decode().catch(() => {});
    return image;
  };
  const images = new Map(); // by path: the galaxies around this one, decoded before they are needed
  const preload = (first, number) => {
    const around = list.slice(Math.max(0, first), first + number);
    const wanted = new Set(around.map((index) => queue.pictures[index]).filter(Boolean));
    for (const path of images.keys()) if (!wanted.has(path)) images.delete(path);
    for (const path of wanted) if (!images.has(path)) images.set(path, newImage(path));
  };
  // Each picture is an element of its own: one whose address changes would show the galaxy before until it has loaded.
  const showPicture = (index) => {
    const path = queue.pictures[index];
    const before = byId("picture");
    const image = path ? images.get(path) || newImage(path) : new Image();
    if (image !== before) {
      before.removeAttribute("id");
      before.replaceWith(image);
      image.id = "picture";
    }
    byId("picture-note").textContent = (path && queue.errors[index]) || "";
    byId("picture-note").hidden = !byId("picture-note").textContent;
    image.alt = `Cutout of galaxy ${index + 1}, ${queue.ids[index]}`;
    if (!path) showMissing(`No picture: ${queue.errors[index] || "unknown reason"}`);
    else if (image.dataset.broken) unreadable(image);
    else showMissing("");
  };
  const renderSingle = () => {
    const index = here();
    byId("single-heading").textContent = heading();
    if (!list.length) {
      showMissing("No galaxies in this queue.");
      return;
    }
    byId("object-id").textContent = queue.ids[index];
    showPicture(index);
    preload(place - BEHIND, BEHIND + 1 + AHEAD);
    const links = queue.links
      .map(([name, template]) => [name, fillLink(template, index)])
      .filter(([, address]) => address !== null);
    // a file on disk opens only from a page on disk
    const cutouts = ((queue.cutouts && queue.cutouts[index]) || []).filter(([, address]) =>
      /^[a-z0-9+.-]+:/iu.test(address) ? /^https?:/iu.test(address) : location.protocol === "file:",
    );
    byId("links").replaceChildren(
      ...[...cutouts, ...links].map(([name, href]) => element("a", { href, target: "_blank", rel: "noopener noreferrer" }, name)),
    );
    renderVerdictText();
    renderPrediction();
    drawAttention();
  };
  const renderVerdictText = () => {
    const entry = own(here());
    const others = [...(given.get(here()) || [])].filter(([name, other]) => name !== reviewer && other.verdict);
    const text = entry ? `Verdict: ${titleOf(entry.verdict)}` : "No verdict yet";
    byId("verdict-text").textContent = others.length
      ? `${text} (${others.map(([name, other]) => `${name || "unnamed"}: ${titleOf(other.verdict)}`).join(", ")})`
      : text;
  };
  const isRevealed = (index) => revealed === index || byId("always").checked;
  const noteShown = (index) => {
    if (shown.has(index)) return;
    shown.add(index);
    keep("shown", [...shown]);
  };
  const flagsOf = (index) => Object.entries(queue.flags).filter(([bit]) => queue.review_flags[index] & Number(bit));
  const renderPrediction = () => {
    const index = here();
    const visible = isRevealed(index);
    const box = byId("prediction");
    box.hidden = !visible;
    byId("prediction-button").setAttribute("aria-expanded", String(visible));
    byId("prediction-button").textContent = visible ? "Hide prediction" : "Show prediction";
    box.replaceChildren();
    if (!visible) return;
    noteShown(index);
    const lines = element("dl");
    queue.classes.forEach((name, at) => {
      const values = queue.probabilities[at];
      const share = values[index] === null ? "–" : values[index].toFixed(2);
      const bar = element("div", { class: "bar" });
      bar.style.width = `${100 * (values[index] || 0)}%`;
      lines.append(element("dt", {}, titleOf(name)), element("dd", {}, bar), element("dd", {}, share));
    });
    const row = (name, text) => lines.append(element("dt", {}, name), element("dd", { class: "wide" }, text));
    const confidence = queue.confidence[index] === null ? "" : `, ${queue.confidence[index].toFixed(2)}`;
    const predicted = queue.predicted[index] === null ? "none" : titleOf(queue.classes[queue.predicted[index]]);
    row("class", `${predicted}${confidence}`);
    row("drawn by", queue.reasons[queue.reason[index]]);
    row("flags", flagsOf(index).map(([, name]) => name).join(", ") || "none");
    box.append(lines);
  };
  const togglePrediction = () => {
    if (byId("always").checked) byId("always").checked = false;
    else revealed = revealed === here() ? -1 : here();
    if (inGrid) setGrid(false);
    renderPrediction();
    say(isRevealed(here()) ? byId("prediction").innerText.replaceAll("\n", " ") : "Prediction hidden.");
  };

  // ---- Attention: a small grid of bytes over the picture, in the colours of matplotlib's inferno.

  const INFERNO = [[87, 16, 110], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]];
  let attention = false;
  const drawAttention = () => {
    const map = queue.attention && queue.attention.maps[here()];
    const button = byId("attention-button");
    button.hidden = !queue.attention;
    button.disabled = !map;
    const visible = attention && Boolean(map) && Boolean(queue.pictures[here()]);
    button.setAttribute("aria-pressed", String(attention && Boolean(map)));
    byId("attention-text").hidden = !visible;
    const canvas = byId("overlay");
    canvas.hidden = !visible;
    applyTone();
    if (!visible) return;
    const side = queue.attention.cells;
    const values = Uint8Array.from(atob(map), (character) => character.charCodeAt(0));
    canvas.width = side;
    canvas.height = side;
    const pixels = new ImageData(side, side);
    values.forEach((value, at) => {
      const level = (value / 255) * (INFERNO.length - 1);
      const [low, high] = [INFERNO[Math.floor(level)], INFERNO[Math.ceil(level)]];
      low.forEach((from, channel) => {
        pixels.data[4 * at + channel] = from + (high[channel] - from) * (level % 1);
      });
      pixels.data[4 * at + 3] = 0.7 * value;
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    placeOverlay();
  };
  // The network sees the central square of the picture, which is drawn as large as it fits into the square stage.
  const placeOverlay = () => {
    const picture = byId("picture");
    if (!queue.attention || !picture.naturalWidth) return;
    const ratio = Math.min(picture.naturalWidth, picture.naturalHeight) / Math.max(picture.naturalWidth, picture.naturalHeight);
    const share = 100 * ratio * queue.attention.crop;
    Object.assign(byId("overlay").style, {
      width: `${share}%`,
      height: `${share}%`,
      left: `${(100 - share) / 2}%`,
      top: `${(100 - share) / 2}%`,
    });
  };
  const toggleAttention = () => {
    if (!queue.attention) {
      say("This queue has no attention maps.");
      return;
    }
    attention = !attention;
    if (attention && inGrid) setGrid(false);
    drawAttention();
    say(attention ? "Attention shown." : "Attention hidden.");
  };

  // ---- Zoom and tone. A filter of SVG, because a page from disk may not read the pixels of its pictures.

  const STRETCHES = [["as it is", 0], ["faint light", 4], ["fainter light", 15], ["faintest light", 60], ["bright core", -6]];
  const view = { zoom: 1, x: 0, y: 0 };
  const tone = (value) => {
    const strength = STRETCHES[Number(byId("stretch").value)][1];
    let level = value;
    if (strength > 0) level = Math.asinh(strength * value) / Math.asinh(strength);
    if (strength < 0) level = Math.sinh(-strength * value) / Math.sinh(-strength);
    const contrast = 2 ** (Number(byId("contrast").value) / 20);
    level = (level - 0.5) * contrast + 0.5 + Number(byId("brightness").value) / 100;
    level = Math.max(0, Math.min(1, level));
    return byId("invert").checked ? 1 - level : level;
  };
  const isPlain = () => ["stretch", "brightness", "contrast"].every((id) => Number(byId(id).value) === 0) && !byId("invert").checked;
  const applyTone = () => {
    if (!isPlain()) {
      const table = Array.from({ length: 129 }, (_, at) => tone(at / 128).toFixed(4)).join(" ");
      for (const channel of document.querySelectorAll("#tone feFuncR, #tone feFuncG, #tone feFuncB")) {
        channel.setAttribute("tableValues", table);
      }
    }
    const filter = isPlain() ? "" : "url(#tone)";
    byId("picture").style.filter = `${filter}${byId("overlay").hidden ? "" : " grayscale(1)"}`.trim();
    for (const image of byId("tiles").querySelectorAll("img")) image.style.filter = filter;
  };
  const keepDisplay = () => {
    keep("display", Object.fromEntries(["stretch", "brightness", "contrast"].map((id) => [id, byId(id).value])));
    keep("invert", byId("invert").checked);
    keep("advance", byId("advance").checked);
  };
  const nextStretch = () => {
    const select = byId("stretch");
    select.value = String((Number(select.value) + 1) % STRETCHES.length);
    applyTone();
    keepDisplay();
    say(`Stretch: ${STRETCHES[Number(select.value)][0]}`);
  };
  const applyView = () => {
    const limit = (view.zoom - 1) / 2;
    view.x = Math.max(-limit, Math.min(limit, view.x));
    view.y = Math.max(-limit, Math.min(limit, view.y));
    const layers = byId("layers");
    layers.style.transform = view.zoom === 1 ? "" : `translate(${100 * view.x}%, ${100 * view.y}%) scale(${view.zoom})`;
    byId("stage").classList.toggle("zoomed", view.zoom > 1);
    byId("stage").classList.toggle("sharp", view.zoom >= 4);
    byId("zoom-text").textContent = `${view.zoom.toFixed(1)}×`;
  };
  // Keeps the point (x, y) where it is: from the centre of the stage, in sides of the picture.
  const zoom = (factor, x = 0, y = 0) => {
    const before = view.zoom;
    view.zoom = Math.max(1, Math.min(16, before * factor));
    if (view.zoom < 1.01) view.zoom = 1;
    view.x = x - ((x - view.x) * view.zoom) / before;
    view.y = y - ((y - view.y) * view.zoom) / before;
    applyView();
  };
  const resetDisplay = () => {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    for (const id of ["stretch", "brightness", "contrast"]) byId(id).value = "0";
    byId("invert").checked = false;
    applyView();
    applyTone();
    keepDisplay();
    say("Display reset.");
  };

  // ---- The grid: one page of small pictures at a time, so that thousands of galaxies cost no memory.

  // As many rows and columns as fill the window best, of tiles that are neither tiny nor large.
  const perPage = () => {
    const narrow = window.innerWidth <= 800;
    const width = byId("main").clientWidth - 32;
    if (narrow) return { columns: Math.max(3, Math.floor(width / 130)), size: 5 * Math.max(3, Math.floor(width / 130)) };
    const height = byId("main").clientHeight - byId("tiles").offsetTop + byId("main").offsetTop - OPTIONS_PX;
    let best = { columns: 3, size: 6, filled: 0 };
    for (let columns = Math.ceil(width / 210); columns <= Math.max(3, Math.floor(width / 120)); columns += 1) {
      const tall = width / columns + CAPTION_PX;
      const rows = Math.max(1, Math.floor(height / tall));
      if ((rows * tall) / height > best.filled && rows * tall <= height) best = { columns, size: columns * rows, filled: (rows * tall) / height };
    }
    return best;
  };
  let layout = { columns: 4, size: 24 };
  const pageOf = (at) => {
    const first = at - (at % layout.size);
    return Array.from({ length: Math.min(layout.size, list.length - first) }, (_, by) => first + by);
  };
  const tile = (at) => {
    const index = list[at];
    const button = element("button", { type: "button", class: "tile", "data-at": String(at) });
    if (queue.pictures[index]) {
      const image = element("img", { alt: "", draggable: "false" });
      image.addEventListener("error", () => {
        image.replaceWith(element("span", { class: "missing" }, "The picture’s file cannot be read"));
      });
      image.src = queue.pictures[index];
      button.append(image);
    } else {
      button.append(element("span", { class: "missing" }, queue.errors[index] || "no picture"));
    }
    button.append(element("span", { class: "caption" }));
    return element("li", {}, button);
  };
  const dressTile = (button) => {
    const at = Number(button.dataset.at);
    const index = list[at];
    const entry = own(index);
    const caption = [entry ? titleOf(entry.verdict) : ""];
    if (byId("always").checked) {
      noteShown(index);
      const predicted = queue.predicted[index] === null ? "no class" : titleOf(queue.classes[queue.predicted[index]]);
      caption.push(`[${predicted}${queue.confidence[index] === null ? "" : ` ${queue.confidence[index].toFixed(2)}`}]`);
    }
    button.querySelector(".caption").textContent = caption.filter(Boolean).join(" ") || `${index + 1}`;
    button.setAttribute("aria-label", `Galaxy ${index + 1}, ${queue.ids[index]}: ${caption.filter(Boolean).join(" ") || "no verdict"}`);
    button.setAttribute("aria-current", String(at === place));
    button.tabIndex = at === place ? 0 : -1;
    if (entry) {
      button.dataset.verdict = entry.verdict;
      button.style.setProperty("--verdict", colourOf(entry.verdict));
    } else {
      delete button.dataset.verdict;
    }
  };
  let drawn = ""; // which tiles are there
  const renderGrid = (focus) => {
    layout = perPage();
    const places = pageOf(place);
    const wanted = places.map((at) => list[at]).join();
    const tiles = byId("tiles");
    tiles.style.setProperty("--columns", String(layout.columns));
    if (wanted !== drawn) {
      tiles.replaceChildren(...places.map(tile));
      applyTone();
      drawn = wanted;
      preload(places[places.length - 1] + 1, layout.size);
    }
    const buttons = [...tiles.querySelectorAll(".tile")];
    buttons.forEach(dressTile);
    const [pages, page] = [Math.ceil(list.length / layout.size), Math.floor(place / layout.size) + 1];
    const range = places.length ? `Galaxies ${list[places[0]] + 1} to ${list[places[places.length - 1]] + 1}` : "No galaxies";
    byId("grid-heading").textContent = `${range}, page ${page} of ${pages}`;
    const current = buttons[place % layout.size];
    if (focus && current) {
      current.focus({ preventScroll: true });
      current.scrollIntoView({ block: "nearest" });
    }
  };
  const setGrid = (to) => {
    inGrid = to;
    keep("grid", inGrid);
    refresh({ focus: inGrid });
    if (!inGrid) byId("main").focus();
    say(inGrid ? byId("grid-heading").textContent : heading());
  };
  const pickTile = (event) => {
    const button = event.target.closest(".tile");
    if (!button) return;
    const again = Number(button.dataset.at) === place;
    place = Number(button.dataset.at);
    keep("place", here());
    const brush = byId("brush").value;
    if (brush) {
      change([here()], own(here())?.verdict === brush ? "" : brush);
      say(`${own(here()) ? titleOf(brush) : "No verdict"}: galaxy ${here() + 1}.`);
    } else if (again && event.detail !== 1) {
      setGrid(false); // Enter, or a double click
      return;
    }
    refresh({ focus: true });
  };

  // ---- Files.

  const quoted = (value) => (/[",\r\n]/u.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const exportCsv = () => {
    const lines = allVerdicts().map(([index, name, entry]) =>
      [queue.ids[index], entry.verdict, name, entry.time, queue.queue, queue.release, queue.model_id, String(index + 1),
        entry.shown ? "yes" : "no"].map(quoted).join(","));
    const text = `${[COLUMNS.join(","), ...lines].join("\n")}\n`;
    const href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    const who = reviewer.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/gu, "");
    element("a", { href, download: `verdicts-${queue.queue}${who ? `-${who}` : ""}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
    unsaved = false;
    say(`Exported ${count(lines.length, "verdict")}.`);
  };
  // Fields of each line; RFC 4180: quotes, and line breaks in quotes.
  const parseCsv = (text) => {
    const rows = [];
    let [row, field, inside] = [[], "", false];
    const source = text.replace(/^\uFEFF/u, "");
    for (let at = 0; at < source.length; at += 1) {
      const character = source[at];
      if (inside) {
        if (character !== '"') field += character;
        else if (source[at + 1] === '"') {
          field += '"';
          at += 1;
        } else inside = false;
      } else if (character === '"' && field === "") inside = true;
      else if (character === ",") {
        row.push(field);
        field = "";
      } else if (character === "\n" || character === "\r") {
        if (character === "\r" && source[at + 1] === "\n") at += 1;
        row.push(field);
        rows.push(row);
        [row, field] = [[], ""];
      } else field += character;
    }
    if (field !== "" || row.length) rows.push([...row, field]);
    return rows.filter((fields) => fields.length > 1 || fields[0] !== "");
  };
  // Why a file is refused; empty where it is not.
  const refusal = (header, records) => {
    for (const name of ["object_id", "verdict"]) if (!header.includes(name)) return `it has no column ${name}`;
    for (const name of ["queue", "release", "model_id"]) {
      const other = records.find((record) => record[name] && record[name] !== queue[name]);
      if (other) return `it is of another queue: its ${name} is ${other[name]}, here it is ${queue[name]}`;
    }
    if (records.length && !records.some((record) => indexOf.has(record.object_id))) return "none of its galaxies is in this queue";
    return "";
  };
  const importText = (text, counts) => {
    const [header = [], ...lines] = parseCsv(text);
    const records = lines.map((fields) => Object.fromEntries(header.map((name, at) => [name, fields[at] ?? ""])));
    const reason = refusal(header, records);
    if (reason) return reason;
    for (const record of records) {
      const index = indexOf.get(record.object_id);
      const entry = { verdict: record.verdict, time: record.time || "1970-01-01T00:00:00Z", shown: record.prediction_shown === "yes" };
      if (index === undefined) counts.unknown.push(record.object_id);
      else if (!queue.verdicts.includes(record.verdict)) counts.unusable.push(`${record.object_id}: ${record.verdict || "empty"}`);
      else {
        const name = record.reviewer || "";
        const before = given.get(index)?.get(name);
        if (before && before.time === entry.time && before.verdict === entry.verdict) counts.same += 1;
        else if (before && before.time >= entry.time) counts.older += 1;
        else {
          put(index, name, entry);
          counts[before && before.verdict ? "replaced" : "added"] += 1;
        }
        if (contradicted(index)) counts.contradictions.add(index);
      }
    }
    return "";
  };
  const listing = (title, items) => {
    if (!items.length) return [];
    const rest = items.length > LISTED ? [element("li", {}, `and ${items.length - LISTED} more`)] : [];
    const lines = items.slice(0, LISTED).map((item) => element("li", {}, item));
    return [element("p", {}, `${title}:`), element("ul", {}, ...lines, ...rest)];
  };
  const importFiles = async (files) => {
    const lines = [];
    for (const file of files) {
      const counts = { added: 0, replaced: 0, older: 0, same: 0, unknown: [], unusable: [], contradictions: new Set() };
      const refused = importText(await file.text(), counts);
      if (refused) {
        lines.push(element("p", { class: "notice" }, `${file.name} is refused: ${refused}.`));
        continue;
      }
      const parts = [`${count(counts.added, "verdict")} added`];
      if (counts.replaced) parts.push(`${counts.replaced} replaced by later ones`);
      if (counts.older) parts.push(`${counts.older} older than those here, which stay`);
      if (counts.same) parts.push(`${counts.same} were here already`);
      const described = [...counts.contradictions].map((index) => {
        const verdicts = [...given.get(index)].filter(([, entry]) => entry.verdict);
        return `Galaxy ${index + 1}, ${queue.ids[index]}: ${verdicts.map(([name, entry]) => `${name || "unnamed"} ${titleOf(entry.verdict)}`).join(", ")}`;
      });
      lines.push(
        element("p", {}, `${file.name}: ${parts.join(", ")}.`),
        ...listing(`${count(described.length, "galaxy", "galaxies")} with contradicting verdicts`, described),
        ...listing(`${count(counts.unknown.length, "galaxy", "galaxies")} not in this queue`, counts.unknown),
        ...listing(`${count(counts.unusable.length, "verdict")} that this queue does not have`, counts.unusable),
      );
    }
    recount();
    refresh();
    byId("report-text").replaceChildren(...lines);
    byId("report").showModal();
  };

  // ---- All of it.

  const progress = () => {
    const done = [...tally.values()].reduce((sum, number) => sum + number, 0);
    byId("progress").value = done;
    const parts = queue.verdicts.filter((verdict) => tally.get(verdict)).map((verdict) => `${tally.get(verdict)} ${titleOf(verdict)}`);
    byId("progress-text").textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}${parts.length ? ` (${parts.join(", ")})` : ""}`;
    const file = served ? "they are in the queue’s folder" : "Export CSV makes the file";
    notice("finished", done === total ? `Every galaxy has a verdict: ${file} for jobs.import_verdicts.` : "");
  };
  const refresh = ({ focus = false } = {}) => {
    if (revealed !== here()) revealed = -1;
    byId("single").hidden = inGrid;
    byId("grid").hidden = !inGrid;
    byId("grid-button").setAttribute("aria-pressed", String(inGrid));
    if (inGrid) renderGrid(focus);
    else renderSingle();
    const verdict = own(here())?.verdict;
    for (const button of byId("verdicts").children) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    byId("undo").disabled = !undone.length;
    progress();
  };
  const rename = (to) => {
    const name = to.trim();
    if (name === reviewer) return;
    const from = reviewer;
    reviewer = name;
    keep("reviewer", reviewer);
    let moved = 0;
    if (from === "") {
      // verdicts that were given before the name was
      for (const [index, names] of given) {
        const entry = names.get("");
        if (!entry || !entry.verdict || names.get(name)?.verdict) continue;
        put(index, name, entry);
        put(index, "", { ...entry, verdict: "", time: now() });
        moved += 1;
      }
    }
    undone.length = 0;
    recount();
    refresh();
    say(`Reviewer ${name || "unnamed"}${moved ? `, with ${count(moved, "verdict")}` : ""}.`);
  };

  const rows = (by) => (inGrid ? by * layout.columns : 0);
  const COMMANDS = [
    [["ArrowRight"], "next galaxy", () => step(1)],
    [["ArrowLeft"], "previous galaxy", () => step(-1)],
    [["ArrowDown"], "grid: the row below", () => rows(1) && step(rows(1))],
    [["ArrowUp"], "grid: the row above", () => rows(1) && step(rows(-1))],
    [["PageDown"], "grid: next page; else ten further", () => step(inGrid ? layout.size : 10)],
    [["PageUp"], "grid: previous page; else ten back", () => step(inGrid ? -layout.size : -10)],
    [["Home"], "first galaxy", () => goTo(0, { focus: inGrid })],
    [["End"], "last galaxy", () => goTo(list.length - 1, { focus: inGrid })],
    [["n"], "next galaxy without a verdict", nextOpen],
    [["z", "Backspace"], "undo", undo],
    [["Delete"], "take the verdict back", clear],
    [["g"], "grid, or one galaxy", () => setGrid(!inGrid)],
    [["p"], "show or hide the prediction", togglePrediction],
    [["v"], "show or hide attention", toggleAttention],
    [["t"], "next stretch", nextStretch],
    [["+", "="], "zoom in", () => zoom(1.5)],
    [["-"], "zoom out", () => zoom(1 / 1.5)],
    [["0"], "reset zoom and stretch", resetDisplay],
    [["/"], "go to a number or an id", () => byId("jump-to").focus()],
    [["?"], "these keys", () => byId("help").showModal()],
  ];
  const NAMES = { ArrowRight: "→", ArrowLeft: "←", ArrowDown: "↓", ArrowUp: "↑", PageDown: "Page ↓", PageUp: "Page ↑" };
  const commandOf = new Map(COMMANDS.flatMap(([keys, , run]) => keys.map((key) => [key, run])));
  const verdictKeys = queue.verdicts.map((verdict, at) => {
    const letter = titleOf(verdict)[0].toLowerCase();
    const same = queue.verdicts.filter((other) => titleOf(other)[0].toLowerCase() === letter).length;
    const keys = at < 9 ? [String(at + 1)] : [];
    return /[a-z]/u.test(letter) && same === 1 && !commandOf.has(letter) ? [...keys, letter] : keys;
  });
  const verdictOf = new Map(verdictKeys.flatMap((keys, at) => keys.map((key) => [key, queue.verdicts[at]])));

  const onKey = (event) => {
    if (document.querySelector("dialog[open]") || event.altKey || event.isComposing) return;
    const inField = event.target.matches('input[type="text"], select, textarea');
    if (inField && event.key === "Escape") byId("main").focus();
    if (inField || (event.target.matches('input[type="range"]') && /^(Arrow|Page|Home|End)/u.test(event.key))) return;
    const wantsUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey;
    if ((event.ctrlKey || event.metaKey) && !wantsUndo) return;
    const digit = /^(?:Digit|Numpad)([1-9])$/u.exec(event.code);
    const key = event.shiftKey && digit ? digit[1] : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const verdict = verdictOf.get(key);
    const run = wantsUndo ? undo : commandOf.get(key);
    if (verdict && event.shiftKey && inGrid) judgeRest(verdict);
    else if (verdict && !event.shiftKey) judge(verdict);
    else if (run && list.length) run();
    else if (event.key === "Escape" && inGrid) setGrid(false);
    else return;
    event.preventDefault();
  };

  const addOptions = (id, options) => byId(id).append(...options.map(([value, text]) => element("option", { value }, text)));
  const build = () => {
    queue.verdicts.forEach((verdict, at) => {
      const hint = verdictKeys[at].join(" ");
      const button = element("button", { type: "button", "data-verdict": verdict, "aria-pressed": "false",
        "aria-keyshortcuts": hint || null }, titleOf(verdict), " ", element("small", {}, hint));
      button.style.setProperty("--verdict", colourOf(verdict));
      button.addEventListener("click", () => judge(verdict));
      byId("verdicts").append(button);
      byId("keys").append(element("tr", {}, element("td", {}, ...keyCaps(verdictKeys[at])), element("th", { scope: "row" }, `verdict: ${titleOf(verdict)}`)));
    });
    const shifted = ["Shift + verdict"];
    byId("keys").append(element("tr", {}, element("td", {}, ...keyCaps(shifted)), element("th", { scope: "row" }, "grid: the rest of this page")));
    for (const [keys, title] of COMMANDS) {
      byId("keys").append(element("tr", {}, element("td", {}, ...keyCaps(keys)), element("th", { scope: "row" }, title)));
    }
    const verdicts = queue.verdicts.map((verdict) => [verdict, titleOf(verdict)]);
    addOptions("brush", [["", "selects; twice opens"], ...verdicts.map(([value, title]) => [value, `gives: ${title}`])]);
    addOptions("rest", [["", "…"], ...verdicts]);
    addOptions("filter", FILTERS.map(([name, title]) => [name, title]));
    addOptions("stretch", STRETCHES.map(([title], at) => [String(at), title]));
    byId("reviewer").value = reviewer;
    for (const [id, value] of Object.entries(kept("display", {}))) if (byId(id)) byId(id).value = value;
    byId("invert").checked = Boolean(kept("invert", false));
    byId("advance").checked = Boolean(kept("advance", true));
  };
  const keyCaps = (keys) => keys.flatMap((key) => [element("kbd", {}, NAMES[key] || key), " "]);

  const listen = () => {
    const clicks = {
      "grid-button": () => setGrid(!inGrid), "export-button": exportCsv, "import-button": () => byId("import-file").click(),
      "help-button": () => byId("help").showModal(), "prediction-button": togglePrediction, "attention-button": toggleAttention,
      previous: () => step(inGrid ? -layout.size : -1), next: () => step(inGrid ? layout.size : 1), "next-open": nextOpen, undo,
      "zoom-in": () => zoom(1.5), "zoom-out": () => zoom(1 / 1.5), "reset-display": resetDisplay,
    };
    for (const [id, run] of Object.entries(clicks)) byId(id).addEventListener("click", run);
    for (const id of ["stretch", "brightness", "contrast", "invert"]) {
      byId(id).addEventListener("input", () => {
        applyTone();
        keepDisplay();
      });
    }
    byId("advance").addEventListener("change", keepDisplay);
    byId("always").addEventListener("change", () => refresh());
    byId("reviewer").addEventListener("change", (event) => rename(event.target.value));
    byId("filter").addEventListener("change", (event) => applyFilter(event.target.value));
    byId("rest").addEventListener("change", (event) => {
      if (event.target.value) judgeRest(event.target.value);
      event.target.value = "";
    });
    byId("jump").addEventListener("submit", (event) => {
      event.preventDefault();
      jump(byId("jump-to").value);
      byId("jump-to").value = "";
    });
    byId("import-file").addEventListener("change", async (event) => {
      await importFiles([...event.target.files]);
      event.target.value = "";
    });
    byId("tiles").addEventListener("click", pickTile);
    document.addEventListener("keydown", onKey);
    window.addEventListener("resize", () => inGrid && refresh());
    window.addEventListener("storage", (event) => {
      if (event.key?.startsWith(`${PREFIX}verdict.`)) {
        take(event.key);
        refresh();
      }
    });
    window.addEventListener("beforeunload", (event) => {
      if (!storage && (unsaved || unsent.size)) event.preventDefault();
    });
    listenToPointer();
  };
  const listenToPointer = () => {
    const stage = byId("stage");
    const fromCentre = (event) => {
      const [box, side] = [stage.getBoundingClientRect(), byId("layers").offsetWidth || 1];
      return [(event.clientX - box.left - box.width / 2) / side, (event.clientY - box.top - box.height / 2) / side];
    };
    let drag = null;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...fromCentre(event));
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => zoom(view.zoom > 1 ? 1 / view.zoom : 3, ...fromCentre(event)));
    stage.addEventListener("pointerdown", (event) => {
      if (view.zoom === 1) return;
      const [x, y] = fromCentre(event);
      drag = { x: x - view.x, y: y - view.y };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const [x, y] = fromCentre(event);
      Object.assign(view, { x: x - drag.x, y: y - drag.y });
      applyView();
    });
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => {
      drag = null;
    });
  };

  if (storage) Object.keys(storage).filter((key) => key.startsWith(`${PREFIX}verdict.`)).forEach(take);
  else notice("storage", "This browser keeps nothing for this page: export your verdicts before you close it.");
  build();
  recount();
  listen();
  applyView();
  refresh();
  connect();
})();
