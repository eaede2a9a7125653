// A battery as a tile: charge, current, facts, curve and problems.

import { h } from "./vendor/preact.js";
import { HISTORY_S, connection, now, state } from "./exporter.js";
import { DASH, age, duration, expected, forecast, measure, number, t } from "./i18n.js";
import { chargeLevel, isOld, knownTemperatures, problems, worstLevel } from "./problems.js";

const GAP_S = 900; // the curve has no line across a longer gap
const RESTING_A = 0.05;
const LONGEST_H = 720; // the exporter gives no longer forecast

const SHAPES = { // each level has its own shape, for people who do not see the colours
  ok: "M12 2a10 10 0 100 20 10 10 0 000-20zm-1.6 15L5.8 12.4l1.9-1.9 2.7 2.7 5.9-5.9 1.9 1.9z",
  info: "M12 2a10 10 0 100 20 10 10 0 000-20zm-1.3 4.5h2.6v2.6h-2.6zm0 4h2.6v7h-2.6z",
  attention: "M12 1.5L23.5 22H.5zm-1.4 7v6.5h2.8V8.5zm0 8v2.7h2.8v-2.7z",
  alarm: "M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4zm3.1 4.5v8h3v-8zm0 9.8v3h3v-3z",
  charging: "M12 3l8 9h-5v9H9v-9H4z",
  discharging: "M12 21l8-9h-5V3H9v9H4z",
  open: "M8 3l9 9-9 9-2.2-2.200L12.600 12 5.800 5.200z",
  resting: "M3 7h18v3.6H3zm0 6.4h18V17H3z",
};

export const shape = (name, label) => h("svg", { class: `shape ${name}`, viewBox: "0 0 24 24", role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" },
  h("path", { d: SHAPES[name], "fill-rule": "evenodd" }));

/** 131.0 with a small ".0": only the 131 must be readable from two metres. */
export function BigNumber({ value }) {
  const text = number(value, 1);
  const at = text.search(/[.,]\d$/);
  const whole = at < 0 ? text : text.slice(0, at);
  return h("p", { class: `big ${whole.length > 3 ? "long" : ""}` },
    h("span", { class: "whole" }, whole), h("span", { class: "part" }, at < 0 ? "" : text.slice(at)), h("span", { class: "unit" }, "\u00a0Ah"));
}

export function Bar({ battery: { reading }, level }) {
  const percent = reading ? Math.round(reading.rsoc_ratio * 100) : 0;
  return h("div", { class: "charge" },
    h("div", { class: `bar ${reading ? level : "none"}`, "aria-hidden": "true" },
      h("div", { class: "fill", style: { width: `${percent}%` } })),
    h("p", { class: "percent" }, measure(reading && percent, 0, "%")),
    h("p", { class: "of" }, reading && reading.nominal_ah ? t.of(number(reading.nominal_ah, 0)) : ""));
}

export function Flow({ battery: { reading, morning }, stale }) {
  const current = reading ? reading.current_a : null;
  const direction = current > RESTING_A ? "charging" : current < -RESTING_A ? "discharging" : "resting";
  return h("div", { class: "flow" },
    h("p", { class: "way" }, reading ? [shape(direction), " ", t[direction], " ", measure(Math.abs(current), 1, "A")] : DASH),
    h("p", { class: "eta" }, reading && !stale ? outlook(reading, direction) : t.noForecast),
    h("p", { class: "night" }, t.untilMorning, " ", reading && !stale ? answer(morning) : DASH));
}

/** Return whether the charge lasts until the morning, and what is left then. */
function answer(morning) {
  if (!morning) return t.afterNight;
  const left = t.left(measure(Math.floor(morning.left_ah), 0, "Ah"));
  return [h("strong", { class: `enough ${morning.enough}` }, t.enough[morning.enough]), morning.enough === "no" ? "" : `, ${left}`];
}

/** Return what happens if the current stays as it is; always a text, so that nothing moves. */
function outlook(reading, direction) {
  const passed = now() - reading.read_unix_s;
  if (reading.time_to_empty_s !== null) return expected(reading.time_to_empty_s - passed, t.empty, t.emptyAt);
  if (reading.time_to_full_s !== null) return expected(reading.time_to_full_s - passed, t.full, t.fullAt);
  if (reading.rsoc_ratio >= 1) return t.isFull;
  if (direction === "resting") return t.unchanged;
  const hours = reading.remaining_ah / -reading.current_a;
  return hours > LONGEST_H ? t.empty(forecast(hours * 3600)) : t.noForecast;
}

export function Facts({ reading }) {
  const temperatures = reading ? knownTemperatures(reading) : [];
  const hottest = Math.max(...temperatures);
  const shown = temperatures.length ? (hottest > 45 ? hottest : Math.min(...temperatures)) : null;
  const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  return h("dl", { class: "facts" },
    fact(t.voltage, measure(reading && reading.voltage_v, 2, "V")),
    fact(t.power, measure(reading && Math.abs(reading.power_w), 0, "W")),
    fact(t.temperature, measure(shown, 1, "°C")));
}

function Curve({ battery }) {
  const last = state.lastReading[battery.name];
  const samples = (state.samples[battery.name] || []).slice();
  if (last && (!samples.length || last.read_unix_s > samples[samples.length - 1][0])) {
    samples.push([last.read_unix_s, last.remaining_ah, last.current_a]);
  }
  const end = Math.ceil(now() / 60) * 60; // the curve moves once a minute
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
  const label = amounts.length > 1 ? t.curve(number(Math.min(...amounts), 0), number(Math.max(...amounts), 0)) : t.noCurve;
  return h("div", { class: "curve" },
    h("p", { class: "scale", "aria-hidden": "true" }, amounts.length ? [top, top / 2, 0].map((amount) => h("span", null, measure(amount, 0, "Ah"))) : null),
    h("div", { class: "plot" },
      h("svg", { viewBox: "0 -2 720 104", preserveAspectRatio: "none", role: "img", "aria-label": label },
        h("path", { class: "grid", d: "M0 .5h720M0 50h720M0 99.5h720M180 0v100M360 0v100M540 0v100" }),
        h("path", { class: "area", d: area }),
        h("path", { class: "line", d: line })),
      amounts.length > 1 ? null : h("p", { class: "nocurve", "aria-hidden": "true" }, t.noCurve)),
    h("p", { class: "axis", "aria-hidden": "true" }, h("span", null, t.hoursAgo(12)), h("span", null, t.hoursAgo(6)), h("span", null, t.now)));
}

/** The problems, in a space that always has the same size. */
export function Status({ found, most }) {
  const shown = found.slice(0, most);
  const left = found.length - shown.length;
  return h("ul", { class: "status" },
    shown.length
      ? shown.map((each, at) => h("li", { class: each.level, key: each.announcement },
        shape(each.level, t.levels[each.level]),
        h("span", { class: "text" }, each.text, left && at === shown.length - 1 ? ` (${t.more(left)})` : null,
          each.hint ? h("span", { class: "todo" }, ` ${each.hint}`) : null)))
      : h("li", { class: "ok" }, shape("ok", t.levels.ok), h("span", { class: "text" }, t.fine)));
}

export function ageText(battery, stale) {
  const reading = battery.reading;
  if (reading) {
    const seconds = now() - reading.read_unix_s;
    return stale ? t.asOf(t.ago(duration(seconds, true))) : age(seconds);
  }
  return battery.polling ? t.reading : "";
}

/** Return whether to dim the battery's values: they are old, or the exporter is not reached. */
export const isStale = (battery) => connection() !== "connected" || isOld(battery);

/** Return the address of a battery's own view. */
export const viewUrl = (name) => `#/${encodeURIComponent(name)}`;

export function Tile({ battery, alone }) {
  const found = problems(battery);
  const stale = isStale(battery);
  const reading = battery.reading;
  return h("article", { class: `tile ${worstLevel(found)} ${stale ? "stale" : ""} ${reading ? "" : "unread"}` },
    h("div", { class: "head" },
      alone ? h("h2", null, t.state) : h("h2", null, h("a", { href: viewUrl(battery.name) }, h("bdi", null, battery.name))),
      h("p", { class: "age" }, ageText(battery, stale)),
      alone ? null : shape("open")),
    h("div", { class: "amount" }, h(BigNumber, { value: reading && reading.remaining_ah }), h(Bar, { battery, level: reading && chargeLevel(battery) }), h(Flow, { battery, stale })),
    h("div", { class: "rest" }, h(Facts, { reading }), h(Curve, { battery }), alone ? h("p", { class: "hint" }, t.historyHint) : null, h(Status, { found, most: alone ? 99 : 2 })));
}
