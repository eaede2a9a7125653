// The page: what the exporter tells, drawn. Its interface: docs/api.md.

import { h, render } from "./vendor/preact.js";
import { DASH, LANGUAGE, W, age, day, duration, forecast, measure, moment, number } from "./words.js";

const SILENCE_S = 25; // the exporter says something every 10 s
const GRACE_S = 5; // for connecting (again), before the page says that the exporter is not reached
const RETRY_S = 3;
const HISTORY_EVERY_S = 120;
const HISTORY_S = 43200;
const GAP_S = 900; // no line across a longer hole in the history
const STEP_S = 60; // a larger jump of the exporter's clock, which no network delays: somebody has set it
const RESTING_A = 0.05;

const LEVELS = ["ok", "info", "attention", "alarm"];
// What winter and a full battery bring; every other protection is an alarm.
const USUAL = ["charge_undertemperature", "charge_overtemperature", "cell_overvoltage", "pack_overvoltage"];

// ---- What is known

let drawn = null; // the time that is being drawn
const state = {
  batteries: null, // as the API has them; null: nothing was heard yet
  samples: Object.create(null), // by name: [unix_s, remaining_ah, current_a]
  lastReading: Object.create(null), // by name: the last reading that was heard, also when it is too old by now
  heard: null, // when the exporter said something, and what its clock showed
  sought: stamp(), // since when it is being asked
  refusal: null, // why the exporter refuses the stream, in words
  asked: Object.create(null), // by name: what came of its button
};

/** Both clocks: one may be set, the other may stand still while the device sleeps. All that is drawn at once has one time. */
function stamp() {
  return drawn || { wall: Date.now(), steady: performance.now() };
}
function passed(since) {
  const { wall, steady } = stamp();
  return Math.max(wall - since.wall, steady - since.steady) / 1000;
}

/** The exporter's clock, now. */
function now() {
  return state.heard ? state.heard.unix + passed(state.heard) : stamp().wall / 1000;
}

/** Whether the exporter's clock was set since it was last heard: then its earlier times are wrong. */
function wasSet(unix) {
  if (!state.heard) return false;
  const { wall, steady } = stamp();
  const jump = (here, then) => Math.abs(unix - state.heard.unix - (here - then) / 1000);
  return Math.min(jump(wall, state.heard.wall), jump(steady, state.heard.steady)) > STEP_S;
}

/** "live", "connecting" or "offline". */
function contact() {
  if (state.heard && !state.broken && passed(state.heard) <= SILENCE_S) return "live";
  if (state.heard && state.broken && passed(state.broken) <= GRACE_S && passed(state.heard) <= SILENCE_S) return "live";
  return passed(state.sought) <= GRACE_S ? "connecting" : "offline";
}

function keep(battery) {
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

// ---- The exporter

let source = null;
let retry = 0;

function hear(event) {
  const data = JSON.parse(event.data);
  if (wasSet(data.now_unix_s)) {
    state.samples = Object.create(null);
    state.lastReading = Object.create(null);
    if (event.type !== "batteries") connect(); // its first event has everything, with new times
  }
  state.heard = { ...stamp(), unix: data.now_unix_s };
  state.broken = null;
  state.refusal = null;
  if (event.type === "batteries") {
    if (state.exporter && state.exporter !== data.exporter) location.reload(); // it was updated, and this page with it
    forget(data.batteries);
    state.batteries = data.batteries;
    state.exporter = data.exporter;
    state.metrics = data.metrics_path;
    data.batteries.forEach(keep);
    history(); // the first that is heard on a connection: what was missed before it
  } else if (event.type === "battery") {
    replace(data.battery);
  }
  draw();
}

/** Forget the curve of a battery that is gone, or that another one has taken the name of. */
function forget(batteries) {
  (state.batteries || []).forEach((old) => {
    if (batteries.some((each) => each.name === old.name && each.address === old.address)) return;
    [state.samples, state.lastReading, state.asked].forEach((kept) => delete kept[old.name]);
  });
}

function replace(battery) {
  if (!state.batteries) return;
  state.batteries = state.batteries.map((each) => (each.name === battery.name ? battery : each));
  keep(battery);
}

function connect() {
  disconnect();
  if (document.visibilityState === "hidden") return;
  source = new EventSource("api/v1/stream");
  ["batteries", "battery", "alive"].forEach((name) => source.addEventListener(name, hear));
  source.onerror = () => {
    state.broken = state.broken || stamp();
    if (source.readyState === EventSource.CLOSED) refused(); // EventSource itself gives up, and does not say why
    draw();
  };
}

function refused() {
  again();
  fetch("api/v1/stream", { method: "HEAD" }) // asks why, and is no stream
    .then((answer) => { state.refusal = W.refusals[answer.status] || null; }, () => { state.refusal = null; })
    .then(draw);
}

function again() {
  disconnect();
  retry = setTimeout(connect, RETRY_S * 1000);
}

function disconnect() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
}

function history() {
  state.historyFailed = null;
  fetch("api/v1/history")
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status)))
    .then((data) => {
      data.batteries.forEach((each) => { state.samples[each.name] = each.samples; });
      draw();
    })
    .catch(() => { state.historyFailed = stamp(); });
}

function ask(what, name) {
  state.asked[name] = { busy: true };
  draw();
  fetch(`api/v1/${what}?battery=${encodeURIComponent(name)}`, { method: "POST" })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(W.refused(answer.status))))
    .then((battery) => { replace(battery); state.asked[name] = {}; })
    .catch((error) => { state.asked[name] = { problem: typeof error === "string" ? error : W.unreachable }; })
    .then(draw);
}

function begin() {
  state.sought = stamp();
  connect();
  draw();
}

function tick() {
  if (document.visibilityState === "hidden") return;
  const silent = passed(state.heard && state.heard.wall > state.sought.wall ? state.heard : state.sought);
  if (source && silent > SILENCE_S) { // a connection that is none any more
    state.broken = state.broken || stamp();
    state.sought = { ...stamp(), wall: Date.now() - GRACE_S * 1000 - 1 };
    connect();
  }
  if (contact() === "live" && state.historyFailed && passed(state.historyFailed) >= HISTORY_EVERY_S) history();
  draw();
}

// ---- What it means

/** Everything that is wrong with a battery, the worst first: {level, text, hint, say}. */
function problems(battery) {
  const found = [];
  const add = (level, text, hint, say) => found.push({ level, text, hint, say: say === undefined ? text : say });
  const reading = battery.reading;
  if (battery.paused_until_unix_s !== null) {
    const left = battery.paused_until_unix_s - now();
    add("info", W.paused(W.until(moment(left), duration(left))), null, W.pausedShort);
  } else if (!reading && battery.failure) {
    const since = (battery.last_success_unix_s || battery.failure.since_unix_s) - now();
    const [what, todo] = failure(battery);
    add("attention", `${W.notReached(W.since(moment(since), duration(lasting(-since), true)))}: ${what}.`, todo, `${W.notReached("").trim()}: ${what}`);
  } else if (!reading) {
    add("info", battery.last_success_unix_s ? W.old : W.never, null);
  } else if (isOld(battery)) {
    add("attention", W.old, W.oldHint);
  }
  if (reading) judge(reading, add);
  if (reading && battery.failure) add("info", W.lastTryFailed, null, ""); // a weak signal is not called out each time
  if (!found.length && contact() !== "live") add("info", W.old, null, ""); // all was well when it was last heard of
  return found.sort((a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level));
}

function judge(reading, add) {
  const active = reading.protections;
  active.forEach((name) => add(USUAL.includes(name) ? "attention" : "alarm", W.protections[name] || W.protection(name)));
  if (reading.rsoc_ratio < 0.1) add("alarm", W.critical);
  else if (reading.rsoc_ratio < 0.2) add("attention", W.low);
  const temperatures = fitted(reading);
  const coldest = Math.min(...temperatures);
  if (reading.temperatures_c.length && !temperatures.length) add("info", W.noTemperature);
  if (coldest < 0 && reading.current_a > 0.5) add("alarm", W.frostCharging);
  else if (coldest < 0 && !active.includes("charge_undertemperature")) add("attention", W.frost);
  else if (coldest >= 0 && coldest < 5) add("info", W.cold);
  if (Math.max(...temperatures) > 50) add("attention", W.hot);
  const volts = (reading.cells || []).map((cell) => cell.voltage_v).filter((volt) => volt !== null);
  if (Math.min(...volts) < 2.8 && !active.includes("cell_undervoltage")) add("alarm", W.cellLow);
  if (Math.max(...volts) > 3.65 && !active.includes("cell_overvoltage")) add("attention", W.cellHigh);
  if (!active.length) { // a protection that switched it off has said so
    if (!reading.discharge_fet_on) add("alarm", W.dischargeOff);
    if (!reading.charge_fet_on) add("attention", W.chargeOff);
  }
}

const isOld = (battery) => battery.reading !== null && now() - battery.reading.read_unix_s > battery.max_age_s;
const fitted = (reading) => reading.temperatures_c.filter((each) => each !== null && each > -29); // -30 is a socket without a sensor
const failure = (battery) => W.failures[battery.failure.reason] || W.failure(battery.failure.reason);
const lasting = (seconds) => (seconds < 7200 ? seconds : Math.floor(seconds / 3600) * 3600); // the minutes do not matter then
const grave = (each) => LEVELS.indexOf(each.level) >= LEVELS.indexOf("attention");

/** The worst problem of all batteries that needs somebody, with its battery's name; null: none. */
function worst() {
  const found = (state.batteries || []).map((battery) => ({ name: battery.name, ...problems(battery)[0] })).filter(grave);
  return found.sort((a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level))[0] || null;
}
const levelOf = (found) => (found.length ? found[0].level : "ok");

function levelOfCharge(reading) {
  return reading.rsoc_ratio < 0.1 ? "alarm" : reading.rsoc_ratio < 0.2 ? "attention" : "ok";
}

// ---- Pieces

const SHAPES = { // each level has a shape of its own
  ok: "M12 2a10 10 0 100 20 10 10 0 000-20zm-1.6 15L5.8 12.4l1.9-1.9 2.7 2.7 5.9-5.9 1.9 1.9z",
  info: "M12 2a10 10 0 100 20 10 10 0 000-20zm-1.3 4.5h2.6v2.6h-2.6zm0 4h2.6v7h-2.6z",
  attention: "M12 1.5L23.5 22H.5zm-1.4 7v6.5h2.8V8.5zm0 8v2.7h2.8v-2.7z",
  alarm: "M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4zm3.1 4.5v8h3v-8zm0 9.8v3h3v-3z",
  charging: "M12 3l8 9h-5v9H9v-9H4z",
  discharging: "M12 21l8-9h-5V3H9v9H4z",
  resting: "M3 7h18v3.6H3zm0 6.4h18V17H3z",
};

const shape = (name, label) => h("svg", { class: `shape ${name}`, viewBox: "0 0 24 24", role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" },
  h("path", { d: SHAPES[name], "fill-rule": "evenodd" }));

/** 131.0 with a small ".0": what is read from two metres is the 131. */
function BigNumber({ value }) {
  const text = number(value, 1);
  const at = text.search(/[.,]\d$/);
  const whole = at < 0 ? text : text.slice(0, at);
  return h("p", { class: `big ${whole.length > 3 ? "long" : ""}` },
    h("span", { class: "whole" }, whole), h("span", { class: "part" }, at < 0 ? "" : text.slice(at)), h("span", { class: "unit" }, "\u00a0Ah"));
}

function Bar({ reading }) {
  const percent = reading ? Math.round(reading.rsoc_ratio * 100) : 0;
  return h("div", { class: "charge" },
    h("div", { class: `bar ${reading ? levelOfCharge(reading) : "none"}`, "aria-hidden": "true" },
      h("div", { class: "fill", style: { width: `${percent}%` } })),
    h("p", { class: "percent" }, measure(reading && percent, 0, "%")),
    h("p", { class: "of" }, reading && reading.nominal_ah ? W.of(number(reading.nominal_ah, 0)) : ""));
}

function Flow({ reading, stale }) {
  const current = reading ? reading.current_a : null;
  const way = current > RESTING_A ? "charging" : current < -RESTING_A ? "discharging" : "resting";
  let eta = "\u00a0"; // keeps its line
  if (reading && !stale && reading.time_to_empty_s !== null) eta = W.empty(forecast(reading.time_to_empty_s));
  if (reading && !stale && reading.time_to_full_s !== null) eta = W.full(forecast(reading.time_to_full_s));
  return h("div", { class: "flow" },
    h("p", { class: "way" }, reading ? [shape(way), " ", W[way], " ", measure(Math.abs(current), 1, "A")] : DASH),
    h("p", { class: "eta" }, eta));
}

function Facts({ reading }) {
  const temperatures = reading ? fitted(reading) : [];
  const hottest = Math.max(...temperatures);
  const shown = temperatures.length ? (hottest > 45 ? hottest : Math.min(...temperatures)) : null;
  const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  return h("dl", { class: "facts" },
    fact(W.voltage, measure(reading && reading.voltage_v, 2, "V")),
    fact(W.power, measure(reading && Math.abs(reading.power_w), 0, "W")),
    fact(W.temperature, measure(shown, 1, "°C")));
}

function Curve({ battery }) {
  const last = state.lastReading[battery.name];
  const samples = (state.samples[battery.name] || []).slice();
  if (last && (!samples.length || last.read_unix_s > samples[samples.length - 1][0])) {
    samples.push([last.read_unix_s, last.remaining_ah, last.current_a]);
  }
  const end = Math.ceil(now() / 60) * 60; // moves once a minute
  const shown = samples.filter((each) => each[0] > end - HISTORY_S);
  const amounts = shown.map((each) => each[1]);
  const top = Math.max((last && last.nominal_ah) || 0, ...amounts, 1);
  const x = (time) => Math.round(720 - (end - time) / 60);
  const y = (amount) => Math.round(1000 - (amount / top) * 1000) / 10;
  const runs = [];
  shown.forEach((each, at) => {
    if (!at || each[0] - shown[at - 1][0] > GAP_S) runs.push([]);
    runs[runs.length - 1].push(`${x(each[0])} ${y(each[1])}`);
  });
  const line = runs.map((run) => `M${run.join("L")}${run.length === 1 ? "h-3" : ""}`).join("");
  const area = runs.map((run) => `M${run.join("L")}L${run[run.length - 1].split(" ")[0]} 100L${run[0].split(" ")[0]} 100z`).join("");
  const label = amounts.length > 1 ? W.curve(number(Math.min(...amounts), 0), number(Math.max(...amounts), 0)) : W.noCurve;
  return h("div", { class: "curve" },
    h("div", { class: "plot" },
      h("svg", { viewBox: "0 -2 720 104", preserveAspectRatio: "none", role: "img", "aria-label": label },
        h("path", { class: "grid", d: "M0 .5h720M0 50h720M0 99.5h720M180 0v100M360 0v100M540 0v100" }),
        h("path", { class: "area", d: area }),
        h("path", { class: "line", d: line })),
      amounts.length > 1 ? null : h("p", { class: "nocurve", "aria-hidden": "true" }, W.noCurve)),
    h("p", { class: "axis", "aria-hidden": "true" }, h("span", null, W.hours(12)), h("span", null, W.hours(6)), h("span", null, W.now)));
}

/** What is wrong, in a place whose size does not depend on it. */
function Status({ found, most }) {
  const shown = found.slice(0, most);
  const left = found.length - shown.length;
  return h("ul", { class: "status" },
    shown.length
      ? shown.map((each, at) => h("li", { class: each.level, key: each.say },
        shape(each.level, W.levels[each.level]),
        h("span", { class: "words" }, each.text, left && at === shown.length - 1 ? ` (${W.more(left)})` : null,
          each.hint ? h("span", { class: "todo" }, ` ${each.hint}`) : null)))
      : h("li", { class: "ok" }, shape("ok", W.levels.ok), h("span", { class: "words" }, W.fine)));
}

function ageOf(battery, stale) {
  const reading = battery.reading;
  if (reading) {
    const seconds = now() - reading.read_unix_s;
    return stale ? W.asOf(W.ago(duration(seconds, true))) : age(seconds);
  }
  return battery.polling ? W.reading : "";
}

function Tile({ battery, alone }) {
  const found = problems(battery);
  const stale = contact() !== "live" || isOld(battery);
  const reading = battery.reading;
  return h("article", { class: `tile ${levelOf(found)} ${stale ? "stale" : ""} ${reading ? "" : "unread"}` },
    h("div", { class: "head" },
      alone ? h("h2", null, W.state) : h("h2", null, h("a", { href: address(battery.name) }, h("bdi", null, battery.name))),
      h("p", { class: "age" }, ageOf(battery, stale))),
    h("div", { class: "amount" }, h(BigNumber, { value: reading && reading.remaining_ah }), h(Bar, { reading }), h(Flow, { reading, stale })),
    h("div", { class: "rest" }, h(Facts, { reading }), h(Curve, { battery }), alone ? h("p", { class: "hint" }, W.historyHint) : null, h(Status, { found, most: alone ? 99 : 2 })));
}

// ---- A battery's own view

const card = (name, title, ...content) => h("section", { class: `card ${name}` }, h("h2", null, title), ...content);
const list = (rows) => h("dl", { class: "rows" }, rows.filter((row) => row[1] !== null && row[1] !== undefined)
  .map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))));

function Cells({ reading }) {
  const cells = (reading && reading.cells) || [];
  const volts = cells.map((cell) => cell.voltage_v).filter((volt) => volt !== null);
  const low = Math.min(...volts);
  const high = Math.max(...volts);
  const part = (volt) => Math.min(100, Math.max(0, ((volt - 2.5) / 1.15) * 100)); // 2.5 V to 3.65 V: empty to full
  const which = (test) => cells.filter(test).map((cell) => W.cell(cell.number)).join(", ") || W.no;
  return card("cells", W.cells, cells.length
    ? [h("ul", { class: "bars" }, cells.map((cell) => h("li", { key: cell.number, class: cell.balancing ? "balancing" : "" },
        h("span", { class: "name" }, W.cell(cell.number)),
        h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "fill", style: { width: `${cell.voltage_v === null ? 0 : part(cell.voltage_v)}%` } })),
        h("span", { class: "value" }, measure(cell.voltage_v, 3, "V"))))),
      list([
        [W.spread, measure(reading.cell_spread_v === null ? null : reading.cell_spread_v * 1000, 0, "mV")],
        [W.lowest, which((cell) => cell.voltage_v === low)],
        [W.highest, which((cell) => cell.voltage_v === high)],
        [W.balancing, which((cell) => cell.balancing)]])]
    : h("p", { class: "hint" }, W.noCells));
}

function Phone({ battery }) {
  const asked = state.asked[battery.name] || {};
  const paused = battery.paused_until_unix_s !== null;
  const left = paused ? battery.paused_until_unix_s - now() : 0;
  return card("phone", W.phone,
    h("p", { class: "hint" }, paused ? `${W.paused(W.until(moment(left), duration(left)))}.` : W.phoneHint),
    h("button", { type: "button", "aria-disabled": asked.busy ? "true" : null, onClick: () => asked.busy || ask(paused ? "resume" : "release", battery.name) }, paused ? W.resume : W.release),
    h("p", { class: "problem", role: "alert" }, asked.problem || ""));
}

function Failure({ battery }) {
  if (!battery.failure) return null;
  const since = battery.failure.since_unix_s - now();
  const [what, todo] = failure(battery);
  return card("failure", W.lastFailure,
    h("p", null, `${what[0].toUpperCase()}${what.slice(1)} (${W.since(moment(since), duration(lasting(-since), true))}).`),
    h("p", null, h("b", null, `${W.whatToDo}: `), todo),
    h("p", { class: "hint", lang: "en" }, battery.failure.error));
}

function Details({ battery }) {
  const reading = battery.reading;
  const onOff = (value) => (value === null || value === undefined ? DASH : value ? W.on : W.off);
  const events = reading && reading.protection_events ? Object.keys(reading.protection_events).filter((name) => reading.protection_events[name]) : [];
  const stale = contact() !== "live" || isOld(battery);
  const link = battery.link;
  const identity = battery.identity || {};
  return h("div", { class: `details ${stale ? "stale" : ""}` },
    h(Tile, { battery, alone: true }),
    h(Failure, { battery }),
    card("temperatures", W.temperatures, list(reading
      ? reading.temperatures_c.map((value, at) => [W.sensor(at + 1), measure(value, 1, "°C")])
      : [[W.sensor(1), measure(null, 1, "°C")]])),
    h(Cells, { reading }),
    h(Phone, { battery }),
    card("switches", W.switches, list([
      [W.chargeFet, onOff(reading && reading.charge_fet_on)],
      [W.dischargeFet, onOff(reading && reading.discharge_fet_on)],
      [W.heater, onOff(reading && reading.heater_on)]])),
    events.length ? card("events", W.events, list(events.map((name) => [(W.protections[name] || name).split(":")[0], `${reading.protection_events[name]} ×`]))) : null,
    card("identity", W.battery, list([
      [W.name, h("bdi", null, battery.name)],
      [W.nominal, measure(reading && reading.nominal_ah, 0, "Ah")],
      [W.fullCapacity, reading && reading.full_ah !== null ? measure(reading.full_ah, 1, "Ah") : null],
      [W.cycles, number(reading && reading.cycles, 0)],
      [W.hardware, identity.hardware],
      [W.software, identity.software],
      [W.manufactured, identity.manufactured ? day(identity.manufactured) : null],
      [W.profile, identity.profile],
      [W.address, battery.address],
      [W.restarts, reading && reading.restarts !== null ? number(reading.restarts, 0) : null]])),
    card("link", W.link, list([
      [W.rssi, link.rssi_dbm === null ? DASH : measure(link.rssi_dbm, 0, "dBm")],
      [W.lastSuccess, battery.last_success_unix_s === null ? DASH : age(now() - battery.last_success_unix_s)],
      [W.duration, link.poll_duration_s === null ? DASH : measure(link.poll_duration_s, 1, "s")],
      [W.polls, number(link.polls, 0)],
      [W.failed, number(link.failures, 0)],
      [W.attempts, number(link.connection_attempts, 0)],
      [W.held, measure(link.held_s, 1, "s")],
      [W.requests, number(link.requests, 0)],
      [W.resends, number(link.resends, 0)],
      [W.frameErrors, number(link.frame_errors, 0)]])),
    h("p", { class: "hint about" }, `bms-exporter ${state.exporter}: `, h("a", { href: state.metrics.replace(/^\/+/, "") }, state.metrics), ", ", h("a", { href: "api/v1/batteries" }, "/api/v1/batteries")));
}

// ---- The page

const address = (name) => `#/${encodeURIComponent(name)}`;

/** The name in the address; null: all batteries. */
function chosen() {
  const text = location.hash.replace(/^#\/?/, "");
  try {
    return text ? decodeURIComponent(text) : null;
  } catch (error) { // a "%" that a person typed
    return text;
  }
}

function Contact() {
  const now_ = contact();
  if (now_ === "live") return h("p", { class: "contact live" }, h("span", { class: "dot" }), W.live);
  const old = state.heard ? ` · ${W.asOf(W.ago(duration(passed(state.heard), true)))}` : "";
  return now_ === "connecting"
    ? h("p", { class: "contact" }, `${W.connecting}${passed(state.heard || state.sought) > SILENCE_S ? old : ""}`)
    : h("p", { class: "contact offline" }, shape("attention", W.levels.attention), ` ${state.refusal || W.offline}${old}`);
}

/** The worst problem, for whose battery one would have to scroll. */
const Worst = ({ problem }) => h("a", { class: `worst ${problem.level}`, href: address(problem.name),
  "aria-label": `${W.levels[problem.level]} ${problem.name}: ${problem.say || problem.text}` },
  shape(problem.level), " ",
  h("span", { class: "words", key: problem.text }, h("bdi", null, problem.name), `: ${problem.say || problem.text}`));

function title() {
  const problem = worst();
  const view = chosen() === null ? W.title : `${chosen()} – ${W.title}`;
  if (contact() === "offline") return `${state.refusal || W.offline} · ${view}`;
  return problem ? `${W.levels[problem.level]}: ${problem.name}: ${problem.say || problem.text} · ${view}` : view;
}

function Page() {
  const name = chosen();
  const problem = name === null && contact() === "live" ? worst() : null;
  const battery = name !== null && state.batteries ? state.batteries.find((each) => each.name === name) : null;
  let content;
  if (!state.batteries) content = h("p", { class: "empty" }, contact() === "offline" ? state.refusal || W.offline : W.loading);
  else if (name !== null && !battery) content = h("p", { class: "empty" }, W.noSuch(name));
  else if (battery) content = h(Details, { battery, key: name });
  else if (!state.batteries.length) content = h("p", { class: "empty" }, W.none);
  else content = h("div", { class: "tiles" }, state.batteries.map((each) => h(Tile, { battery: each, key: each.name })));
  return [
    h("header", { class: `${contact()} ${name === null ? "overview" : ""} ${problem ? "bad" : ""}` },
      name === null ? h("h1", { tabIndex: -1 }, W.title) : [
        h("a", { class: "back", href: "#/", "aria-label": W.all }, h("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, h("path", { d: "M15.5 3l2.6 2.6L11.700 12l6.400 6.400L15.500 21l-9-9z" }))),
        h("h1", { tabIndex: -1 }, h("bdi", null, name))],
      problem ? h(Worst, { problem }) : null,
      h(Contact)),
    h("main", null, content)];
}

let said = "";

/** Tell a screen reader what is wrong, when that changes: never the numbers or the times. */
function say() {
  const parts = contact() === "offline" ? [state.refusal ? `${state.refusal}.` : W.offlineHint] : [];
  (state.batteries || []).forEach((battery) => {
    const found = problems(battery);
    const words = found.map((each) => each.say).filter(Boolean);
    if (words.length) parts.push(`${battery.name}: ${words.join(". ")}.`);
  });
  const text = parts.join(" ") || (said ? W.fine : "");
  if (text !== said) document.getElementById("say").textContent = said = text;
}

// Of a tile: its form, width and height, and how large its digits are, in em.
const FORMS = [["tall", 17, 29, 5], ["wide", 32, 17, 5], ["short", 22, 18.5, 4.2]];

/** Make the tiles as large as the window allows: as columns, and as tall or wide tiles. */
function fit() {
  const count = (state.batteries || []).length || 1;
  const root = document.documentElement;
  const rem = parseFloat(getComputedStyle(root).fontSize);
  const width = root.clientWidth - 0.75 * rem;
  const height = root.clientHeight - 3.25 * rem; // header
  const least = 0.75 * rem; // smaller text is none
  let best = { unit: 0, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const across = width / columns - 0.75 * rem;
    const down = height / rows - 0.75 * rem;
    FORMS.forEach(([form, wide, high, digits]) => {
      const unit = Math.min(across / wide, down / high);
      if (unit >= least && unit * digits > best.size) best = { unit, columns, form, size: unit * digits };
    });
  }
  const fits = best.unit > 0;
  if (!fits) { // then the page scrolls
    const columns = Math.max(1, Math.min(count, Math.floor(width / (23 * rem))));
    best = { columns, form: "short", unit: Math.min(1.25 * rem, (width / columns - 0.75 * rem) / 22) };
  }
  root.className = `${best.form} ${fits ? "fits" : "scrolls"}`;
  root.style.setProperty("--unit", `${Math.floor(best.unit * 4) / 4}px`);
  root.style.setProperty("--columns", best.columns);
  root.style.setProperty("--high", `${root.clientHeight}px`); // 100vh is more than a phone shows
}

let count = -1;

function draw() {
  const known = (state.batteries || []).length;
  if (known !== count) {
    count = known;
    fit();
  }
  drawn = stamp();
  try {
    if (document.title !== title()) document.title = title();
    render(h(Page), document.getElementById("page"));
    say();
  } finally {
    drawn = null;
  }
}

/** Move the focus as a page of its own would: to the heading, or back to where one came from. */
let before = chosen();
function turn() {
  const left = before;
  before = chosen();
  draw();
  const back = before === null && left !== null
    ? Array.from(document.querySelectorAll(".tile a")).find((link) => link.getAttribute("href") === address(left)) : null;
  (back || document.querySelector("h1")).focus({ preventScroll: true });
  if (back) back.closest(".tile").scrollIntoView({ block: "nearest" });
  else window.scrollTo(0, 0);
}

document.documentElement.lang = LANGUAGE;
window.addEventListener("hashchange", turn);
window.addEventListener("resize", fit);
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", (event) => event.persisted && begin());
document.addEventListener("visibilitychange", () => (document.visibilityState === "hidden" ? disconnect() : begin()));
setInterval(tick, 1000);
fit();
begin();
