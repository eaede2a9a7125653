// A battery's own view: all its values, and the button that releases it for the phone app.

import { h } from "./vendor/preact.js";
import { now, post, state } from "./exporter.js";
import { DASH, age, day, duration, measure, moment, number, t } from "./i18n.js";
import { failureTexts, knownTemperatures, pauseText, sinceText } from "./problems.js";
import { Tile, isStale, shape } from "./tile.js";

const card = (name, title, ...content) => h("section", { class: `card ${name}` }, h("h2", null, title), ...content);
const isKnown = ([, value]) => value !== null && value !== undefined && value !== DASH;
const list = (rows) => h("dl", { class: "rows" }, rows.filter(isKnown)
  .map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))));

/** A card of rows, of those whose value is known; null without any. */
const table = (name, title, rows) => (rows.some(isKnown) ? card(name, title, list(rows)) : null);

/** Return the configured name of a sensor; "ntc1" is what the exporter calls one without a name. */
function sensorName({ sensors }, at) {
  const name = sensors[at];
  return name === `ntc${at + 1}` ? t.sensor(at + 1) : name;
}

/** The state of a MOSFET; an open one, which a protection or a switch has opened, is a problem of this level. */
function mosfet(reading, isOn, level) {
  if (isOn) return t.on;
  return h("span", { class: level }, shape(level), " ", reading.protections.length ? t.blocked : t.switchedOff);
}

function Cells({ reading }) {
  const cells = (reading && reading.cells) || [];
  const volts = cells.map((cell) => cell.voltage_v).filter((volt) => volt !== null);
  const low = Math.min(...volts);
  const high = Math.max(...volts);
  const part = (volt) => Math.min(100, Math.max(0, ((volt - 2.5) / 1.15) * 100)); // 2.5 V to 3.65 V: empty to full
  const which = (test) => cells.filter(test).map((cell) => t.cell(cell.number)).join(", ") || t.no;
  return card("cells", t.cells, cells.length
    ? [h("ul", { class: "bars" }, cells.map((cell) => h("li", { key: cell.number, class: cell.balancing ? "balancing" : "" },
        h("span", { class: "name" }, t.cell(cell.number)),
        h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "fill", style: { width: `${cell.voltage_v === null ? 0 : part(cell.voltage_v)}%` } })),
        h("span", { class: "value" }, measure(cell.voltage_v, 3, "V"))))),
      list([
        [t.spread, measure(reading.cell_spread_v === null ? null : reading.cell_spread_v * 1000, 0, "mV")],
        [t.lowest, which((cell) => cell.voltage_v === low)],
        [t.highest, which((cell) => cell.voltage_v === high)],
        [t.balancing, which((cell) => cell.balancing)]])]
    : h("p", { class: "hint" }, t.noCells));
}

/** How far the reading is from the limits that the battery itself has; nothing if they are not known. */
function Headroom({ battery }) {
  const { reading, settings } = battery;
  if (!reading || !settings || settings.read_unix_s === null) return null;
  const limits = settings.values; // without those that were not read
  const volts = (reading.cells || []).map((cell) => cell.voltage_v).filter((volt) => volt !== null);
  const row = (name, limit, left, [unit, digits, leftUnit, leftDigits]) => (Number.isFinite(limit) && Number.isFinite(left)
    ? [name(measure(limit, digits, unit)), measure(left, leftDigits, leftUnit)] : null);
  const [cell, sensor, current] = [["V", 2, "V", 3], ["°C", 0, "K", 1], ["A", 0, "A", 0]];
  const { cell_undervoltage_v: empty, cell_overvoltage_v: full, charge_undertemperature_c: frost, charge_overcurrent_a: charge } = limits;
  const discharge = -limits.discharge_overcurrent_a;
  const rows = [
    row(t.toCutOff, empty, Math.min(...volts) - empty, cell),
    row(t.toChargeEnd, full, full - Math.max(...volts), cell),
    row(t.toFrost, frost, Math.min(...knownTemperatures(reading)) - frost, sensor),
    reading.current_a > 0
      ? row(t.toHighestCharge, charge, charge - reading.current_a, current)
      : row(t.toHighestDischarge, discharge, discharge + reading.current_a, current)].filter(Boolean);
  return rows.length ? card("headroom", t.headroom, list(rows),
    h("p", { class: "hint" }, t.limitsRead(t.ago(duration(now() - settings.read_unix_s, true))))) : null;
}

function Phone({ battery }) {
  const { busy, problem } = state.actions[battery.name] || {};
  const isPaused = battery.paused_until_unix_s !== null;
  return card("phone", t.phone,
    h("p", { class: "hint" }, isPaused ? `${pauseText(battery)}.` : t.phoneHint),
    h("button", { type: "button", "aria-disabled": busy ? "true" : null, onClick: () => busy || post(isPaused ? "resume" : "release", battery.name) }, isPaused ? t.resume : t.release),
    h("p", { class: "problem", role: "alert" }, problem || ""));
}

function Failure({ battery }) {
  if (!battery.failure) return null;
  const [what, hint] = failureTexts(battery);
  return card("failure", t.lastFailure,
    h("p", null, `${what[0].toUpperCase()}${what.slice(1)} (${sinceText(battery.failure.since_unix_s)}).`),
    h("p", null, h("b", null, `${t.whatToDo}: `), hint),
    h("p", { class: "hint", lang: "en" }, battery.failure.error));
}

export function Details({ battery }) {
  const reading = battery.reading;
  const events = reading && reading.protection_events ? Object.keys(reading.protection_events).filter((name) => reading.protection_events[name]) : [];
  const link = battery.link;
  const identity = battery.identity || {};
  return h("div", { class: `details ${isStale(battery) ? "stale" : ""}` },
    h(Tile, { battery, alone: true }),
    h(Failure, { battery }),
    table("temperatures", t.temperatures, reading
      ? reading.temperatures_c.map((value, at) => [sensorName(reading, at), measure(value, 1, "°C")]) : []),
    h(Cells, { reading }),
    h(Headroom, { battery }),
    h(Phone, { battery }),
    table("switches", t.switches, reading ? [
      [t.chargeFet, mosfet(reading, reading.charge_fet_on, "attention")],
      [t.dischargeFet, mosfet(reading, reading.discharge_fet_on, "alarm")],
      [t.heater, reading.heater_on === null ? null : reading.heater_on ? t.on : t.off]] : []),
    table("events", t.events, events.map((name) => [(t.protections[name] || name).split(":")[0], `${reading.protection_events[name]}\u00a0×`])),
    table("identity", t.battery, [
      [t.name, h("bdi", null, battery.name)],
      [t.nominal, measure(reading && reading.nominal_ah, 0, "Ah")],
      [t.fullCapacity, reading && reading.full_ah !== null ? measure(reading.full_ah, 1, "Ah") : null],
      [t.cycles, number(reading && reading.cycles, 0)],
      [t.hardware, identity.hardware],
      [t.software, identity.software],
      [t.manufactured, identity.manufactured ? day(identity.manufactured) : null],
      [t.profile, identity.profile],
      [t.address, battery.address],
      [t.restarts, reading && reading.restarts !== null ? number(reading.restarts, 0) : null]]),
    table("link", t.link, [
      [t.rssi, measure(link.rssi_dbm, 0, "dBm")],
      [t.lastSuccess, battery.last_success_unix_s === null ? null : age(now() - battery.last_success_unix_s)],
      [t.duration, measure(link.poll_duration_s, 1, "s")],
      [t.polls, number(link.polls, 0)],
      [t.failed, number(link.failures, 0)],
      [t.attempts, number(link.connection_attempts, 0)],
      [t.route, link.route ? t.routeText(link.route, moment(link.route.since_unix_s - now())) : null],
      [t.held, measure(link.held_s, 1, "s")],
      [t.requests, number(link.requests, 0)],
      [t.resends, number(link.resends, 0)],
      [t.frameErrors, number(link.frame_errors, 0)]]),
    h("p", { class: "hint about" }, `bms-exporter ${state.exporter}: `, h("a", { href: state.metricsPath.replace(/^\/+/, "") }, state.metricsPath), ", ", h("a", { href: "api/v1/batteries" }, "/api/v1/batteries")));
}
