// A bank as a tile: its total, its batteries, and why there is no total.

import { h } from "./vendor/preact.js";
import { state } from "./exporter.js";
import { DASH, measure, t } from "./i18n.js";
import { bankProblems, chargeLevel, worstLevel } from "./problems.js";
import { Bar, BigNumber, Facts, Flow, Status, ageText, isStale } from "./tile.js";

const MOST = 4; // rows of batteries; each has a tile of its own

/** Return a bank as one battery: as old as its oldest reading, as cold or hot as its batteries. */
function asBattery(bank, members) {
  const readings = members.map((battery) => battery.reading);
  return {
    reading: bank.total && readings.every(Boolean) ? {
      ...bank.total,
      read_unix_s: Math.min(...readings.map((reading) => reading.read_unix_s)),
      temperatures_c: [].concat(...readings.map((reading) => reading.temperatures_c)),
    } : null,
    morning: bank.morning,
    max_age_s: Math.min(...members.map((battery) => battery.max_age_s)),
    polling: members.some((battery) => battery.polling),
    failure: null,
    last_success_unix_s: null,
  };
}

const Member = ({ battery }) => h("li", null,
  h("bdi", null, battery.name),
  h("span", { class: `bar ${battery.reading ? chargeLevel(battery) : ""}`, "aria-hidden": "true" },
    h("span", { class: "fill", style: { width: battery.reading ? `${battery.reading.rsoc_ratio * 100}%` : 0 } })),
  h("span", { class: "value" }, battery.reading ? measure(battery.reading.rsoc_ratio * 100, 0, "%") : DASH));

function Members({ bank, members }) {
  const shown = members.length > MOST ? members.slice(0, MOST - 1) : members;
  return h("div", { class: "members" },
    h("p", null, t.wiring[bank.wiring](members.length)),
    h("ul", { class: "bars" },
      shown.map((battery) => h(Member, { battery, key: battery.name })),
      shown.length < members.length ? h("li", null, h("span", { class: "others" }, t.more(members.length - shown.length))) : null));
}

export function BankTile({ bank }) {
  const members = bank.batteries.map((name) => state.batteries.find((each) => each.name === name)).filter(Boolean);
  const battery = asBattery(bank, members);
  const { reading } = battery;
  const stale = isStale(battery);
  const found = bankProblems(bank, members);
  const levels = members.filter((each) => each.reading).map((each) => ({ level: chargeLevel(each) }));
  return h("article", { class: `tile bank ${worstLevel(found)} ${stale ? "stale" : ""} ${reading ? "" : "unread"}` },
    h("div", { class: "head" }, h("h2", null, h("bdi", null, bank.name)), h("p", { class: "age" }, ageText(battery, stale))),
    h("div", { class: "amount" }, h(BigNumber, { value: reading && reading.remaining_ah }),
      h(Bar, { battery, level: worstLevel(levels) }), h(Flow, { battery, stale })),
    h("div", { class: "rest" }, h(Facts, { reading }), h(Members, { bank, members }), h(Status, { found, most: reading ? 2 : 1 })));
}
