// The connection to the exporter, and the state that it sends (docs/api.md): batteries, curves and its clock.

import { t } from "./i18n.js";

export const SILENCE_S = 25; // the exporter sends an event every 10 s; after two missing ones the connection is dead
const GRACE_S = 5; // for a first connection or a reconnection, before the page says that the exporter is not reached
const RETRY_S = 3;
const HISTORY_EVERY_S = 120; // as often as the exporter keeps a sample
export const HISTORY_S = 43200;
const CLOCK_STEP_S = 60; // no network delays an event that long, so the exporter's clock was set

let source = null; // the stream
let retry = 0; // timer of the next attempt
let frozen = null; // the one time for all that is being drawn
let onChange = () => {};

export const state = {
  batteries: null, // as the API lists them; null before the first event
  banks: [], // as the API lists them
  samples: Object.create(null), // by name: [unix_s, remaining_ah, current_a]
  lastReading: Object.create(null), // by name: the last reading, kept when it is too old to be shown as a number
  lastMessage: null, // timestamp of the last event, with `unix`: its time by the exporter's clock
  connectingSince: timestamp(),
  brokenSince: null, // when the stream was lost
  historyFailedAt: null,
  refusal: null, // why the exporter refuses the stream, as a text
  actions: Object.create(null), // by name: {busy, problem} of the button that releases or resumes
};

/** Read both clocks: the wall clock may be set; the steady one may stop while the device sleeps. */
function timestamp() {
  return frozen || { wall: Date.now(), steady: performance.now() };
}

/** Run `action` with one time for everything that it computes. */
export function atOneTime(action) {
  frozen = timestamp();
  try {
    action();
  } finally {
    frozen = null;
  }
}

/** Return the seconds since a timestamp, by the clock that has advanced more. */
export function elapsed(since) {
  const { wall, steady } = timestamp();
  return Math.max(wall - since.wall, steady - since.steady) / 1000;
}

/** Return the current unix time by the exporter's clock. */
export function now() {
  return state.lastMessage ? state.lastMessage.unix + elapsed(state.lastMessage) : timestamp().wall / 1000;
}

/** Return "connected", "connecting" or "offline"; a short reconnection still counts as connected. */
export function connection() {
  const isRecent = state.lastMessage && elapsed(state.lastMessage) <= SILENCE_S;
  if (isRecent && (!state.brokenSince || elapsed(state.brokenSince) <= GRACE_S)) return "connected";
  return elapsed(state.connectingSince) <= GRACE_S ? "connecting" : "offline";
}

/** Connect, and call `changed` after everything that changes the state. */
export function start(changed) {
  onChange = changed;
  state.connectingSince = timestamp();
  connect();
  onChange();
}

export function disconnect() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
}

/** Reconnect a stream that is open but silent; request the history again if that failed. */
export function checkConnection() {
  const { lastMessage, connectingSince } = state;
  const since = lastMessage && lastMessage.wall > connectingSince.wall ? lastMessage : connectingSince;
  if (source && elapsed(since) > SILENCE_S) {
    state.brokenSince = state.brokenSince || timestamp();
    state.connectingSince = { ...timestamp(), wall: Date.now() - GRACE_S * 1000 - 1 }; // offline until an event arrives
    connect();
  }
  if (connection() === "connected" && state.historyFailedAt && elapsed(state.historyFailedAt) >= HISTORY_EVERY_S) loadHistory();
}

/** Release a battery for the phone app, or resume reading it; `action` is the last part of the path. */
export function post(action, name) {
  state.actions[name] = { busy: true };
  onChange();
  fetch(`api/v1/${action}?battery=${encodeURIComponent(name)}`, { method: "POST" })
    .then((response) => (response.ok ? response.json() : Promise.reject(t.refused(response.status))))
    .then((battery) => { replaceBattery(battery); state.actions[name] = {}; })
    .catch((error) => { state.actions[name] = { problem: typeof error === "string" ? error : t.unreachable }; })
    .then(onChange);
}

function connect() {
  disconnect();
  if (document.visibilityState === "hidden") return;
  source = new EventSource("api/v1/stream");
  ["batteries", "battery", "alive"].forEach((name) => source.addEventListener(name, onMessage));
  source.onerror = () => {
    state.brokenSince = state.brokenSince || timestamp();
    if (source.readyState === EventSource.CLOSED) retryRefused(); // EventSource retries lost connections, not refused ones
    onChange();
  };
}

function retryRefused() {
  disconnect();
  retry = setTimeout(connect, RETRY_S * 1000);
  fetch("api/v1/stream", { method: "HEAD" }) // EventSource does not reveal the status; HEAD opens no stream
    .then((response) => { state.refusal = t.refusals[response.status] || null; }, () => { state.refusal = null; })
    .then(onChange);
}

function onMessage(event) {
  const data = JSON.parse(event.data);
  if (clockWasSet(data.now_unix_s)) {
    state.samples = Object.create(null);
    state.lastReading = Object.create(null);
    if (event.type !== "batteries") connect(); // the first event of a connection has everything, with new times
  }
  state.lastMessage = { ...timestamp(), unix: data.now_unix_s };
  state.brokenSince = null;
  state.refusal = null;
  if (event.type === "batteries") {
    if (state.exporter && state.exporter !== data.exporter) location.reload(); // an update brings a new page, too
    dropReplaced(data.batteries);
    state.batteries = data.batteries;
    state.banks = data.banks;
    state.exporter = data.exporter;
    state.metricsPath = data.metrics_path;
    data.batteries.forEach(recordReading);
    loadHistory(); // once per connection, for what was missed before it
  } else if (event.type === "battery") {
    replaceBattery(data.battery);
    state.banks = state.banks.map((each) => data.banks.find((bank) => bank.name === each.name) || each);
  }
  onChange();
}

/** Return whether the exporter's clock was set since the last event, so that its earlier times are wrong. */
function clockWasSet(unix) {
  const last = state.lastMessage;
  if (!last) return false;
  const { wall, steady } = timestamp();
  const step = (here, then) => Math.abs(unix - last.unix - (here - then) / 1000);
  return Math.min(step(wall, last.wall), step(steady, last.steady)) > CLOCK_STEP_S;
}

/** Forget the curves of batteries that are gone, or whose name now belongs to another address. */
function dropReplaced(batteries) {
  (state.batteries || []).forEach((old) => {
    if (batteries.some((each) => each.name === old.name && each.address === old.address)) return;
    [state.samples, state.lastReading, state.actions].forEach((byName) => delete byName[old.name]);
  });
}

function replaceBattery(battery) {
  if (!state.batteries) return;
  state.batteries = state.batteries.map((each) => (each.name === battery.name ? battery : each));
  recordReading(battery);
}

function recordReading(battery) {
  const reading = battery.reading;
  if (!reading) return;
  state.lastReading[battery.name] = reading;
  const samples = state.samples[battery.name] || (state.samples[battery.name] = []);
  const last = samples.length ? samples[samples.length - 1][0] : 0;
  if (reading.read_unix_s - last >= HISTORY_EVERY_S) {
    samples.push([reading.read_unix_s, reading.remaining_ah, reading.current_a]);
  }
  while (samples.length && samples[0][0] < now() - HISTORY_S) samples.shift();
}

function loadHistory() {
  state.historyFailedAt = null;
  fetch("api/v1/history")
    .then((response) => (response.ok ? response.json() : Promise.reject(response.status)))
    .then((data) => {
      data.batteries.forEach((each) => { state.samples[each.name] = each.samples; });
      onChange();
    })
    .catch(() => { state.historyFailedAt = timestamp(); });
}
