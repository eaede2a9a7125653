// The problems of batteries and banks, and their levels.

import { connection, now, state } from "./exporter.js";
import { duration, measure, moment, t } from "./i18n.js";

const LEVELS = ["ok", "info", "attention", "alarm"];
// Winter and a full battery cause these; every other protection is an alarm.
const USUAL = ["charge_undertemperature", "charge_overtemperature", "cell_overvoltage", "pack_overvoltage"];
const UNEQUAL = 0.1; // as in the alert

/**
 * List the problems of a battery, the worst first: {level, text, hint, announcement}.
 * `announcement` is for screen readers: it has no times, and is empty for problems that change too often.
 */
export function problems(battery) {
  const found = [];
  const add = (level, text, hint, announcement) => found.push({ level, text, hint, announcement: announcement === undefined ? text : announcement });
  const reading = battery.reading;
  if (battery.paused_until_unix_s !== null) {
    add("info", pauseText(battery), null, t.pausedShort);
  } else if (!reading && battery.failure) {
    const since = battery.last_success_unix_s || battery.failure.since_unix_s;
    const [what, hint] = failureTexts(battery);
    add("attention", `${t.notReached(sinceText(since))}: ${what}.`, hint, `${t.notReached("").trim()}: ${what}`);
  } else if (!reading) {
    add("info", battery.last_success_unix_s ? t.old : t.never, null);
  } else if (isOld(battery)) {
    add("attention", t.old, t.oldHint);
  }
  if (reading) addReadingProblems(battery, add);
  if (reading && battery.failure) add("info", t.lastPollFailed, null, ""); // a weak signal is not announced each time
  if (!found.length && connection() !== "connected") add("info", t.old, null, ""); // "All is well" may be outdated
  return found.sort(worstFirst);
}

/** List the problems that need attention, with the name of their battery or bank and the battery to look at, the worst first. */
export function urgentProblems() {
  const found = [];
  const add = (name, view, list) => list.filter(needsAttention).forEach((each) => found.push({ ...each, name, view }));
  (state.batteries || []).forEach((battery) => add(battery.name, battery.name, problems(battery)));
  state.banks.forEach((bank) => add(bank.name, bank.batteries[0], ownProblems(bank)));
  return found.sort(worstFirst);
}

/** List what is wrong with a bank, but not with one of its batteries: the alert BmsBankImbalance, without its two hours. */
export function ownProblems({ total }) {
  if (!total || total.rsoc_difference_ratio <= UNEQUAL) return [];
  const apart = measure(total.rsoc_difference_ratio * 100, 0, "%");
  return [{ level: "attention", text: `${t.unequal}: ${t.apart(apart)}.`, hint: t.unequalHint, announcement: t.unequal }];
}

/** List why a bank has no total, and what is wrong with it and its batteries. */
export function bankProblems(bank, members) {
  const missing = [];
  const others = ownProblems(bank);
  members.forEach((battery) => problems(battery).forEach((each) => {
    const add = (list, text) => list.push({ ...each, text, hint: null, announcement: text }); // its own tile has the hint
    if (!battery.reading) add(missing, t.noTotal(battery.name, each.text));
    else if (needsAttention(each)) add(others, `${battery.name}: ${each.text}`);
  }));
  return [...missing, ...others.sort(worstFirst)];
}

export const worstLevel = (found) => (found.length ? found.slice().sort(worstFirst)[0].level : "ok");

/** Return the level of a battery's charge by the configured thresholds. */
export function chargeLevel({ reading, thresholds }) {
  return isBelow(reading, thresholds.critical) ? "alarm" : isBelow(reading, thresholds.low) ? "attention" : "ok";
}

export const isOld = (battery) => battery.reading !== null && now() - battery.reading.read_unix_s > battery.max_age_s;

/** List the temperatures of connected sensors in °C: a socket without a sensor reads -30. */
export const knownTemperatures = (reading) => reading.temperatures_c.filter((each) => each !== null && each > -29);

/** Return what failed last and what to do about it. */
export const failureTexts = (battery) => t.failures[battery.failure.reason] || t.failure(battery.failure.reason);

/** Format how long something has lasted; beyond two hours without minutes, so that the text seldom changes. */
export function sinceText(unix) {
  const seconds = now() - unix;
  const coarse = seconds < 7200 ? seconds : Math.floor(seconds / 3600) * 3600;
  return t.since(moment(-seconds), duration(coarse, true));
}

export function pauseText(battery) {
  const left = battery.paused_until_unix_s - now();
  return t.paused(t.until(moment(left), duration(left)));
}

/** Whether the charge is below a threshold in Ah or in %; one in % of an unknown capacity has no Ah. */
function isBelow(reading, { remaining_ah: ah, rsoc_ratio: ratio }) {
  return ratio === null ? ah !== null && reading.remaining_ah < ah : reading.rsoc_ratio < ratio;
}

const thresholdText = ({ remaining_ah: ah, rsoc_ratio: ratio }) => (ratio === null ? limitText(ah, "Ah") : limitText(ratio * 100, "%"));

/** Format a limit with as many decimals as it has, two at most. */
function limitText(value, unit) {
  const digits = [0, 1].find((each) => Math.abs(value - value.toFixed(each)) < 0.001);
  return measure(value, digits === undefined ? 2 : digits, unit);
}

/** Return the limits of the alerts (bms-limits.yml): from the battery's own where they were read, else those of LiFePO4. */
function limits({ settings }) {
  const own = settings && settings.read_unix_s !== null ? settings.values : {};
  const known = (value, other) => (Number.isFinite(value) ? value : other);
  const off = Math.min(known(own.charge_overtemperature_c, Infinity), known(own.discharge_overtemperature_c, Infinity));
  return { hot: known(off - 10, 50), cellLow: known(own.cell_undervoltage_v + 0.1, 2.8), cellHigh: known(own.cell_overvoltage_v, 3.65) };
}

function addReadingProblems(battery, add) {
  const { reading, thresholds } = battery;
  const active = reading.protections;
  active.forEach((name) => add(USUAL.includes(name) ? "attention" : "alarm", t.protections[name] || t.protection(name)));
  const level = chargeLevel(battery);
  if (level === "alarm") add("alarm", t.critical(thresholdText(thresholds.critical)));
  else if (level === "attention") add("attention", t.low(thresholdText(thresholds.low)));
  const temperatures = knownTemperatures(reading);
  const coldest = Math.min(...temperatures);
  if (reading.temperatures_c.length && !temperatures.length) add("info", t.noTemperature);
  if (coldest < 0 && reading.current_a > 0.5) add("alarm", t.frostCharging);
  else if (coldest < 0 && !active.includes("charge_undertemperature")) add("attention", t.frost);
  else if (coldest >= 0 && coldest < 5) add("info", t.cold);
  const { hot, cellLow, cellHigh } = limits(battery);
  if (Math.max(...temperatures) > hot) add("attention", t.hot(limitText(hot, "°C")));
  const volts = (reading.cells || []).map((cell) => cell.voltage_v).filter((volt) => volt !== null);
  if (Math.min(...volts) < cellLow && !active.includes("cell_undervoltage")) add("alarm", t.cellLow(limitText(cellLow, "V")));
  if (Math.max(...volts) > cellHigh && !active.includes("cell_overvoltage")) add("attention", t.cellHigh(limitText(cellHigh, "V")));
  if (!active.length) { // an active protection already explains an open MOSFET
    if (!reading.discharge_fet_on) add("alarm", t.dischargeOff);
    if (!reading.charge_fet_on) add("attention", t.chargeOff);
  }
}

const worstFirst = (a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level);
const needsAttention = (each) => LEVELS.indexOf(each.level) >= LEVELS.indexOf("attention");
