// The labeler's page: everything by keyboard, or by mouse. The key lives in sessionStorage and travels as a header, never in an address.
"use strict";

const TEXTS = {
  en: {
    title: "Labels", shortcuts: "Shortcuts", leave: "Sign out", welcome: "Listen to the forest", key: "Your labeler's key", enter: "Begin", close: "Close",
    keyWhy: "Your key is kept in this tab only, until you close it.", nothingWaits: "Nothing waits for you",
    nothingWhy: "Every sample is labelled, or in other hands. This page looks again every half minute.", again: "Look again",
    unknown: "Unknown", nothing: "Nothing", speech: "Speech: delete", note: "Note (optional)", undo: "Undo", model: "The model's answer",
    speechTitle: "Delete this clip's sound?", speechWhy: "Nobody will hear it again, neither people nor models. This cannot be undone.",
    cancel: "Keep it", delete: "Delete", windows: "Windows", search: "Search a species by any name", noFind: "No species of this site by that name.",
    question: (n, of) => of > 1 ? `What do you hear in window ${n} of ${of}?` : "What do you hear?", play: "Play this window", pause: "Pause",
    picked: "Nothing chosen yet.", remove: (name) => `Remove ${name}`, submit: "Submit", change: "Send the change", next: "Next sample", nextWindow: "Next window", notAsked: "This window is settled; it is here to be heard.",
    hidden: "Hidden until you have answered.", hiddenWhole: "Hidden until you have answered every window.", gone: "It is gone from the log.",
    you: "You", it: "Model", agree: "You agree.", differ: "You differ.", nothingNamed: "Nothing above its threshold", why: "Chosen because",
    bulk: (n) => n > 1 ? `Accept the model's answer for the ${n} others` : "Accept the model's answer for the other window",
    confirmed: "Accepted the model's answer.", left: (n) => n > 1 ? `${n} windows are still to be answered.` : "One window is still to be answered.",
    first: "Choose a species first, or Unknown, or Nothing.", taken: "Taken.", undone: "Undone.", noUndo: "There is nothing to undo.", deleted: "The sound was deleted.",
    withdrawn: "Withdrawn; you can answer again.", noHear: "The sound cannot be played here.", offline: "The labeler does not answer; try again in a moment.", spect: (a, b) => `Spectrogram from ${a} to ${b} seconds`,
    progress: (p) => `${p.yours.random + p.yours.value} by you · ${p.waiting} waiting · ${p.settled} of ${p.samples} settled`,
    reasons: { random: "it is in the random sample", flagged: "a guide flagged it", disagreement: "models disagreed", rare: "a rare species", uncertain: "the model was not sure" },
    keys: [["Space", "Play or pause"], ["← →", "Window before or after"], ["/", "Search a species; ↑ ↓ and ↵ choose"], ["1 – 9", "One of the species named lately"], ["U", "Unknown"], ["N", "Nothing"],
      ["S", "Speech: delete (asks once more)"], ["⌫", "Remove the last species"], ["↵", "Submit, then next"], ["B", "Accept the model's answer for the other windows"], ["Z", "Undo"], ["?", "These shortcuts"]],
  },
  es: {
    title: "Etiquetas", shortcuts: "Atajos", leave: "Salir", welcome: "Escuche el bosque", key: "Su clave de etiquetado", enter: "Empezar", close: "Cerrar",
    keyWhy: "Su clave se guarda solo en esta pestaña, hasta que la cierre.", nothingWaits: "No hay nada pendiente",
    nothingWhy: "Todas las muestras están etiquetadas o en otras manos. La página vuelve a mirar cada medio minuto.", again: "Volver a mirar",
    unknown: "Desconocido", nothing: "Nada", speech: "Voz humana: borrar", note: "Nota (opcional)", undo: "Deshacer", model: "Respuesta del modelo",
    speechTitle: "¿Borrar el sonido de este clip?", speechWhy: "Nadie volverá a oírlo, ni personas ni modelos. No se puede deshacer.",
    cancel: "Conservar", delete: "Borrar", windows: "Ventanas", search: "Buscar especie por cualquier nombre", noFind: "Ninguna especie de este sitio con ese nombre.",
    question: (n, of) => of > 1 ? `¿Qué oye en la ventana ${n} de ${of}?` : "¿Qué oye?", play: "Reproducir esta ventana", pause: "Pausa",
    picked: "Nada elegido todavía.", remove: (name) => `Quitar ${name}`, submit: "Enviar", change: "Enviar el cambio", next: "Siguiente", nextWindow: "Otra ventana", notAsked: "Esta ventana ya está resuelta; está aquí para oírla.",
    hidden: "Oculta hasta que usted responda.", hiddenWhole: "Oculta hasta que responda todas las ventanas.", gone: "Ya no está en el registro.",
    you: "Usted", it: "Modelo", agree: "Coinciden.", differ: "No coinciden.", nothingNamed: "Nada sobre su umbral", why: "Elegida porque",
    bulk: (n) => n > 1 ? `Aceptar la respuesta del modelo en las otras ${n}` : "Aceptar la respuesta del modelo en la otra ventana",
    confirmed: "Respuesta del modelo aceptada.", left: (n) => n > 1 ? `Faltan ${n} ventanas por responder.` : "Falta una ventana por responder.",
    first: "Elija antes una especie, Desconocido o Nada.", taken: "Recibido.", undone: "Deshecho.", noUndo: "No hay nada que deshacer.", deleted: "El sonido fue borrado.",
    withdrawn: "Retirada; puede responder otra vez.", noHear: "El sonido no se puede reproducir aquí.", offline: "El servicio no responde; inténtelo en un momento.", spect: (a, b) => `Espectrograma de ${a} a ${b} segundos`,
    progress: (p) => `Suyas: ${p.yours.random + p.yours.value} · Pendientes: ${p.waiting} · Resueltas: ${p.settled} de ${p.samples}`,
    reasons: { random: "está en la muestra aleatoria", flagged: "un guía la marcó", disagreement: "los modelos no coincidieron", rare: "una especie rara", uncertain: "el modelo dudó" },
    keys: [["Espacio", "Reproducir o pausar"], ["← →", "Ventana anterior o siguiente"], ["/", "Buscar una especie; ↑ ↓ y ↵ eligen"], ["1 – 9", "Una de las especies recientes"], ["U", "Desconocido"], ["N", "Nada"],
      ["S", "Voz humana: borrar (pregunta otra vez)"], ["⌫", "Quitar la última especie"], ["↵", "Enviar; luego, siguiente"], ["B", "Aceptar la respuesta del modelo en las demás"], ["Z", "Deshacer"], ["?", "Estos atajos"]],
  },
};
const SEARCH_WAIT_MS = 120, TOAST_MS = 4000, EMPTY_WAIT_MS = 30000, RECENT = 9;

const $ = (id) => document.getElementById(id);
let lang = localStorage.getItem("lang") === "es" ? "es" : "en";
let key = sessionStorage.getItem("key") || "";
let names = JSON.parse(sessionStorage.getItem("names") || "{}"); // label -> its species, for chips and recent ones
let recent = JSON.parse(sessionStorage.getItem("recent") || "[]");
let item = null, before = null; // the sample at hand, and the one before it for undo
let found = [], chosen = -1, searchTimer = 0, searchTurn = 0, emptyTimer = 0, toastTimer = 0, busy = false, who = null, seen = null;
const t = (name, ...args) => typeof TEXTS[lang][name] === "function" ? TEXTS[lang][name](...args) : TEXTS[lang][name];
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const nameOf = (label) => names[label] ? names[label][lang] || names[label].scientific : label;

// ---- the door ----

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { "X-API-Key": key, ...(options.headers || {}) } });
  } catch {
    throw Object.assign(new Error(t("offline")), { status: 0 });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ detail: response.statusText }));
  throw Object.assign(new Error(problem.detail), { status: response.status, reason: problem.reason });
}
const post = async (path, body) => (await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();

function tell(text, wrong = false) {
  const toast = $("status");
  toast.textContent = text;
  toast.className = `toast shown${wrong ? " wrong" : ""}`;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.className = "toast"; }, wrong ? 2 * TOAST_MS : TOAST_MS);
}

async function guarded(work) { // one request of the labeler at a time; what fails is said
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    if (error.status === 401 || error.status === 403) return signOut(error.message);
    tell(error.message, true);
    if (error.status === 410 || error.reason === "settled") await next().catch((again) => tell(again.message, true));
  } finally {
    busy = false;
  }
}

function show(id) {
  for (const part of ["sign-in", "empty", "work"]) $(part).hidden = part !== id;
  $("leave").hidden = id === "sign-in";
}

async function signIn() {
  show("sign-in");
  if (!key) return $("key").focus();
  who = await (await ask("/v1/me")).json();
  sessionStorage.setItem("key", key);
  $("key").value = $("key-wrong").textContent = "";
  await next();
}

function signOut(why = "") {
  stop();
  key = "";
  item = before = who = null;
  sessionStorage.clear();
  names = {}; recent = [];
  $("progress").textContent = "";
  show("sign-in");
  $("key-wrong").textContent = why;
  $("key").focus();
}

// ---- a sample ----

async function next() {
  clearTimeout(emptyTimer);
  const response = await ask("/v1/queue/next");
  refreshProgress();
  if (response.status === 204) {
    leave(null);
    show("empty");
    emptyTimer = setTimeout(() => guarded(next), EMPTY_WAIT_MS);
    return;
  }
  const got = await response.json();
  const base = `/v1/samples/${got.clip_id}`;
  const [sound, ...pictures] = await Promise.all([`${base}/audio`, ...got.windows.map((w) => `${base}/spectrogram/${w.n}.png`)].map(
    async (path) => URL.createObjectURL(await (await ask(path)).blob())));
  leave(got);
  item = { ...got, sound, pictures, answers: {}, answer: null, undo: [], n: got.windows.find((w) => w.asked).n };
  open();
}

function leave(got) {
  stop();
  if (item && got && item.clip_id === got.clip_id) forget(item);
  else if (item) {
    if (before) forget(before);
    before = item;
  }
  item = null;
}

function forget(one) {
  for (const url of [one.sound, ...one.pictures]) URL.revokeObjectURL(url);
}

function open() {
  show("work");
  $("audio").src = item.sound;
  drawAxes();
  draw();
  if (document.activeElement && document.activeElement !== document.body) document.activeElement.blur();
}

async function refreshProgress() {
  try {
    seen = await (await ask("/v1/progress")).json();
    $("progress").textContent = t("progress", seen);
  } catch { /* the next sample tries again */ }
}

// ---- answers ----

const here = () => item.answers[item.n];
const asked = () => item.windows.filter((w) => w.asked);
const isAsked = () => item.windows[item.n].asked;
const answered = (n) => Boolean(item.answers[n] && item.answers[n].verdict);
const unsent = () => asked().filter((w) => answered(w.n) && !item.answers[w.n].sent);
const open_ = () => asked().filter((w) => !answered(w.n));

function put(change) {
  if (!item) return;
  if (!isAsked()) return tell(t("notAsked"));
  const old = here();
  item.undo.push({ n: item.n, old });
  item.answers[item.n] = { id: old ? old.id : newId(), verdict: "", labels: [], note: "", ...old, ...change, sent: false };
  draw();
}

const say = (verdict) => put({ verdict: here() && here().verdict === verdict ? "" : verdict, labels: [] });
const add = (label) => {
  const labels = here() ? here().labels : [];
  if (!labels.includes(label)) put({ verdict: "species", labels: [...labels, label] });
  recent = [label, ...recent.filter((one) => one !== label)].slice(0, RECENT);
  sessionStorage.setItem("recent", JSON.stringify(recent));
};
const remove = (label) => {
  const labels = here().labels.filter((one) => one !== label);
  put({ verdict: labels.length ? "species" : "", labels });
};

async function send(windows) {
  const body = windows.map(({ n, start_s, end_s }) => {
    const { id, verdict, labels, note } = item.answers[n];
    return { label_id: id, clip_id: item.clip_id, start_s, end_s, verdict, labels, note: note || null };
  });
  const said = await post("/v1/labels", body);
  for (const w of windows) item.answers[w.n] = { ...item.answers[w.n], sent: true };
  item.undo = item.undo.filter((step) => step.ids);
  item.undo.push({ ids: windows.map((w) => w.n) });
  item.answer = said.answers[item.clip_id];
  for (const w of item.answer.windows) for (const one of [...w.detections, ...w.top]) names[one.label] = { ...one.names, ...names[one.label] };
  refreshProgress();
}

async function forward() { // Enter: what can be sent is sent; then the next open window; then the next sample
  if (!item) return;
  const ready = unsent(), left = open_();
  if (ready.length && !(item.whole && left.length)) {
    await send(ready);
    draw();
    tell(left.length ? t("left", left.length) : t("taken"));
  } else if (left.length) {
    if (left.some((w) => w.n === item.n)) return tell(t("first"));
    tell(t("left", left.length));
    go((left.find((w) => w.n > item.n) || left[0]).n);
  } else await next();
}

async function bulk() {
  const left = item ? open_() : [];
  if (!left.length || !canBulk()) return;
  for (const w of left) {
    const model = modelOf(w);
    if (!model) continue;
    const labels = model.detections.map((one) => one.label);
    item.answers[w.n] = { id: newId(), verdict: labels.length ? "species" : "nothing", labels, note: t("confirmed"), sent: false };
  }
  await send(unsent());
  draw();
  tell(t("taken"));
}
const modelOf = (w) => item.answer && item.answer.windows.find((one) => Math.abs(one.start_s - w.start_s) < 0.01);
const canBulk = () => Boolean(item && item.answer && !item.answer.hidden && !item.whole && open_().length && open_().every(modelOf));

async function undo() {
  if (item && !item.undo.length && before && before.undo.length) {
    if (before.clip_id !== item.clip_id) [item, before] = [before, item];
    open();
  }
  const step = item && item.undo.pop();
  if (!step) return tell(t("noUndo"));
  if (step.ids) {
    for (const n of step.ids) {
      const answer = item.answers[n];
      await post(`/v1/labels/${answer.id}/withdraw`, {});
      item.answers[n] = { ...answer, sent: false };
    }
    item.n = step.ids[0];
    tell(t("withdrawn"));
    refreshProgress();
  } else {
    if (step.old) item.answers[step.n] = { ...step.old, sent: false };
    else delete item.answers[step.n];
    item.n = step.n;
    tell(t("undone"));
  }
  draw();
}

function askSpeech() {
  if (!item) return;
  stop();
  $("speech-ask").showModal();
}

async function deleteSpeech() {
  $("speech-ask").close();
  const w = item.windows[item.n], old = here();
  await post("/v1/labels", [{ label_id: old ? old.id : newId(), clip_id: item.clip_id, start_s: w.start_s, end_s: w.end_s, verdict: "speech", labels: [] }]);
  forget(item);
  item = null;
  $("audio").removeAttribute("src");
  await next();
  tell(t("deleted"));
}

// ---- the sound ----

const offset = () => item.windows[item.n].start_s - item.start_s; // of the window in the sample's own sound

async function play() {
  if (!item) return;
  const audio = $("audio");
  if (!audio.paused) return audio.pause();
  const at = audio.currentTime - offset();
  if (at < 0 || at > item.window_s - 0.05 || audio.ended) audio.currentTime = offset();
  try {
    await audio.play();
    requestAnimationFrame(follow);
  } catch {
    tell(t("noHear"), true);
  }
}

function stop() {
  $("audio").pause();
}

function follow() {
  const audio = $("audio");
  if (item && !audio.paused && audio.currentTime >= offset() + item.window_s) {
    audio.pause();
    audio.currentTime = offset();
  }
  drawCursor();
  if (!audio.paused) requestAnimationFrame(follow);
}

function seek(share) {
  $("audio").currentTime = Math.min(offset() + share * item.window_s, item.seconds);
  drawCursor();
}

function go(n) {
  if (!item || n < 0 || n >= item.windows.length) return;
  stop();
  item.n = n;
  $("audio").currentTime = offset();
  draw();
}

// ---- the picture ----

const seconds = (s) => `${Number(s.toFixed(1)).toLocaleString(lang)}`;

function drawAxes() {
  const y = $("y-axis"), lines = $("lines");
  y.replaceChildren();
  lines.replaceChildren();
  for (const { hz, at } of item.axis) {
    const tick = make("span", "", hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`), line = make("i");
    tick.style.bottom = line.style.bottom = `${100 * Math.min(at, 0.985)}%`;
    y.append(tick);
    lines.append(line);
  }
}

function drawCursor() {
  if (!item) return;
  const at = Math.max(0, Math.min(item.window_s, $("audio").currentTime - offset()));
  $("cursor").style.transform = `translateX(${(at / item.window_s) * ($("picture").clientWidth - 2)}px)`;
  $("clock").textContent = `${(item.windows[item.n].start_s + at).toFixed(1)} s / ${item.windows[item.n].end_s.toFixed(1)} s`;
  $("play").classList.toggle("playing", !$("audio").paused);
  $("play").setAttribute("aria-label", t($("audio").paused ? "play" : "pause"));
}

function draw() {
  if (!item) return;
  const w = item.windows[item.n];
  $("where").textContent = item.recorder || item.site;
  $("when").textContent = item.recorded_at ? new Date(item.recorded_at).toLocaleString(lang, { dateStyle: "medium", timeStyle: "short" }) : "";
  $("spectrogram").src = item.pictures[item.n];
  $("picture").setAttribute("aria-label", t("spect", seconds(w.start_s), seconds(w.end_s)));
  $("x-axis").replaceChildren(...Array.from({ length: item.window_s + 1 }, (_, s) => {
    const tick = make("span", "", `${seconds(w.start_s + s)} s`);
    tick.style.left = `${(100 * s) / item.window_s}%`;
    return tick;
  }));
  drawWindows();
  drawAnswer();
  drawModel();
  drawCursor();
}

const shortly = (answer) => !answer || !answer.verdict ? "" : answer.verdict === "species" ? answer.labels.map(nameOf).join(", ") : t(answer.verdict);

function drawWindows() {
  $("windows").hidden = item.windows.length < 2;
  $("windows").replaceChildren(...item.windows.map((w) => {
    const answer = item.answers[w.n], button = make("button", answer && answer.sent ? "sent" : ""), image = make("img");
    button.type = "button";
    image.src = item.pictures[w.n];
    image.alt = "";
    button.append(image, make("span", "", `${seconds(w.start_s)} – ${seconds(w.end_s)} s`), make("span", "said", shortly(answer)));
    button.classList.toggle("settled", !w.asked);
    if (w.n === item.n) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => go(w.n));
    return button;
  }));
  const current = $("windows").children[item.n];
  if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function drawAnswer() {
  const answer = here(), chips = $("chips");
  $("question").textContent = t("question", item.n + 1, item.windows.length);
  $("search").placeholder = t("search");
  $("search").setAttribute("aria-label", t("search"));
  chips.replaceChildren(...(answer ? answer.labels : []).map((label) => {
    const chip = make("li", "", nameOf(label)), x = make("button", "", "×");
    x.type = "button";
    x.setAttribute("aria-label", t("remove", nameOf(label)));
    x.addEventListener("click", () => remove(label));
    chip.append(x);
    return chip;
  }));
  if (!chips.children.length) chips.append(make("li", "empty", answer && answer.verdict ? t(answer.verdict) : t("picked")));
  for (const verdict of ["unknown", "nothing"]) $(verdict).setAttribute("aria-pressed", String(Boolean(answer && answer.verdict === verdict)));
  $("note").placeholder = t("note");
  if (document.activeElement !== $("note")) $("note").value = answer ? answer.note : "";
  const ready = unsent(), left = open_();
  const changes = ready.some((w) => item.undo.some((step) => step.ids && step.ids.includes(w.n)));
  const sends = ready.length && !(item.whole && left.length);
  $("submit-text").textContent = t(sends ? (changes ? "change" : "submit") : left.some((w) => w.n === item.n) ? "submit" : left.length ? "nextWindow" : "next");
}

function drawModel() {
  const body = $("model-body"), bulkButton = $("bulk"), w = item.windows[item.n];
  bulkButton.hidden = !canBulk();
  $("bulk-text").textContent = t("bulk", open_().length);
  if (!item.answer || item.answer.hidden) return body.replaceChildren(make("p", "hidden-yet", t(item.whole && asked().length > 1 ? "hiddenWhole" : "hidden")));
  const model = modelOf(w), why = item.answer.reasons.map((one) => TEXTS[lang].reasons[one] || one).join(", ");
  const reasons = make("p", "reasons", [why && `${t("why")}: ${why}.`, item.answer.release].filter(Boolean).join(" · "));
  if (!model) return body.replaceChildren(make("p", "hidden-yet", t("gone")), reasons);
  const said = model.detections.map((one) => one.label), answer = here(), mine = answer ? answer.labels : [];
  const list = make("dl", "compare");
  const same = said.length === mine.length && said.every((label) => mine.includes(label)) && (said.length > 0 || (answer && answer.verdict === "nothing"));
  if (answer && answer.verdict) list.append(make("dt", "", t("you")), make("dd", "", shortly(answer)));
  list.append(make("dt", "", t("it")), make("dd", "", said.length ? said.map(nameOf).join(", ") : t("nothingNamed")));
  const parts = [list];
  if (answer && answer.sent) parts.push(make("p", same ? "agree" : "differ", t(same ? "agree" : "differ")));
  const scores = make("ul", "scores");
  for (const { label, score } of model.top) {
    const row = make("li", said.includes(label) ? "named" : ""), bar = make("span", "bar"), fill = make("i");
    fill.style.width = `${100 * score}%`;
    bar.append(fill);
    row.append(make("span", "", nameOf(label)), bar, make("span", "number", score.toFixed(2)));
    scores.append(row);
  }
  body.replaceChildren(...parts, scores, reasons);
}

// ---- the search ----

function typed() {
  clearTimeout(searchTimer);
  const turn = ++searchTurn, text = $("search").value.trim();
  if (!text) return list(recent.map((label) => ({ label, ...names[label] })), true);
  searchTimer = setTimeout(async () => {
    try {
      const said = await (await ask(`/v1/species?q=${encodeURIComponent(text)}`)).json();
      if (turn === searchTurn) list(said.species);
    } catch (error) {
      tell(error.message, true);
    }
  }, SEARCH_WAIT_MS);
}

function list(species, recents = false) {
  found = species;
  chosen = species.length && !recents ? 0 : -1;
  const results = $("results");
  results.replaceChildren(...species.map((one, n) => {
    const row = make("li"), second = [lang === "en" ? one.es : one.en, one.scientific].filter((name) => name && name !== one[lang]);
    row.id = `result-${n}`;
    row.setAttribute("role", "option");
    row.append(make("span", "", one[lang] || one.label), make("span", "taxon", recents ? String(n + 1) : one.taxon || ""), make("span", "second-name", [...new Set(second)].join(" · ")));
    row.addEventListener("mousedown", (event) => { event.preventDefault(); pick(n); });
    return row;
  }));
  if (!species.length && !recents) results.append(make("li", "none", t("noFind")));
  results.hidden = !results.children.length;
  $("search").setAttribute("aria-expanded", String(!results.hidden));
  mark();
}

function mark() {
  [...$("results").children].forEach((row, n) => row.setAttribute("aria-selected", String(n === chosen)));
  if (chosen >= 0 && found.length) {
    $("search").setAttribute("aria-activedescendant", `result-${chosen}`);
    $("results").children[chosen].scrollIntoView({ block: "nearest" });
  } else $("search").removeAttribute("aria-activedescendant");
}

function pick(n) {
  const one = found[n];
  if (!one) return;
  names[one.label] = one;
  sessionStorage.setItem("names", JSON.stringify(names));
  add(one.label);
  $("search").value = "";
  close();
}

function close() {
  clearTimeout(searchTimer);
  searchTurn++;
  found = [];
  chosen = -1;
  $("results").hidden = true;
  $("search").setAttribute("aria-expanded", "false");
  $("search").removeAttribute("aria-activedescendant");
}

function searchKey(event) {
  const empty = !$("search").value;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (found.length) chosen = (chosen + (event.key === "ArrowDown" ? 1 : found.length - (chosen < 0 ? 0 : 1))) % found.length;
    mark();
  } else if (event.key === "Enter" && found[chosen]) pick(chosen);
  else if (event.key === "Enter" && empty) {
    $("search").blur();
    guarded(forward);
  } else if (event.key === "Escape") {
    $("search").value = "";
    close();
    $("search").blur();
  } else if (event.key === "Backspace" && empty && here() && here().labels.length) remove(here().labels.at(-1));
  else return;
  event.preventDefault();
}

// ---- keys, buttons, language ----

const KEYS = {
  " ": () => play(), ArrowLeft: () => item && go(item.n - 1), ArrowRight: () => item && go(item.n + 1),
  "/": () => $("search").focus(), u: () => say("unknown"), n: () => say("nothing"), s: askSpeech, z: () => guarded(undo), b: () => guarded(bulk),
  Enter: () => guarded(forward), "?": () => $("help").showModal(),
  Backspace: () => here() && here().labels.length && remove(here().labels.at(-1)),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("work").hidden) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ($("speech-ask").open) {
    if (name === "s" && !event.repeat) { event.preventDefault(); guarded(deleteSpeech); }
    return;
  }
  if ($("help").open || !item) return;
  if (event.target === $("search")) return searchKey(event);
  if (event.target === $("note")) {
    if (name === "Escape" || name === "Enter") event.target.blur();
    return;
  }
  if (event.target.tagName === "BUTTON" && (name === "Enter" || name === " ")) return; // the button's own
  if (event.repeat && !name.startsWith("Arrow")) return event.preventDefault();
  if (/^[1-9]$/.test(name) && recent[name - 1]) add(recent[name - 1]);
  else if (KEYS[name]) KEYS[name]();
  else return;
  event.preventDefault();
}

function translate() {
  document.documentElement.lang = lang;
  document.title = `El Silencio · ${t("title")}`;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-aria]")) node.setAttribute("aria-label", t(node.dataset.aria));
  $("lang").textContent = lang === "en" ? "Español" : "English";
  $("lang").lang = lang === "en" ? "es" : "en";
  $("keys").replaceChildren(...TEXTS[lang].keys.flatMap(([keys, what]) => {
    const dt = make("dt");
    dt.append(...keys.split(" ").map((one) => one === "–" ? make("span", "", "–") : make("kbd", "", one)));
    return [dt, make("dd", "", what)];
  }));
  if (seen && who) $("progress").textContent = t("progress", seen);
  draw();
}

document.addEventListener("keydown", pressed);
document.addEventListener("click", (event) => { // a button that the mouse pressed gives the keyboard back
  const button = event.target.closest && event.target.closest("button");
  if (button && event.detail > 0 && !button.closest("dialog")) button.blur();
});
$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  guarded(signIn);
});
$("leave").addEventListener("click", () => signOut());
$("again").addEventListener("click", () => guarded(next));
$("lang").addEventListener("click", () => {
  lang = lang === "en" ? "es" : "en";
  localStorage.setItem("lang", lang);
  translate();
});
$("play").addEventListener("click", play);
$("audio").addEventListener("pause", drawCursor);
$("audio").addEventListener("seeked", drawCursor);
$("picture").addEventListener("click", (event) => seek(event.offsetX / $("picture").clientWidth));
window.addEventListener("resize", drawCursor);
$("unknown").addEventListener("click", () => say("unknown"));
$("nothing").addEventListener("click", () => say("nothing"));
$("speech").addEventListener("click", askSpeech);
$("speech-no").addEventListener("click", () => $("speech-ask").close());
$("speech-yes").addEventListener("click", () => guarded(deleteSpeech));
$("note").addEventListener("change", () => put({ note: $("note").value.trim() }));
$("undo").addEventListener("click", () => guarded(undo));
$("submit").addEventListener("click", () => guarded(forward));
$("bulk").addEventListener("click", () => guarded(bulk));
$("search").addEventListener("input", typed);
$("search").addEventListener("focus", typed);
$("search").addEventListener("blur", close);
$("help-open").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());

translate();
if (key) guarded(signIn);
else signIn();
