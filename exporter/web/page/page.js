// The page: its header, all batteries or one, and when it is drawn. The other modules: exporter.js (the connection and
// the state), problems.js (what is wrong), tile.js and details.js (views of a battery), i18n.js (texts).

import { h, render } from "./vendor/preact.js";
import { BankTile } from "./bank.js";
import { Details } from "./details.js";
import { SILENCE_S, atOneTime, checkConnection, connection, disconnect, elapsed, start, state } from "./exporter.js";
import { LANGUAGE, duration, t } from "./i18n.js";
import { ownProblems, problems, urgentProblems } from "./problems.js";
import { Tile, shape, viewUrl } from "./tile.js";

// The forms of a tile: name, width, height and the size of the digits, in em.
const FORMS = [["tall", 17, 30.4, 5], ["wide", 32, 18.4, 5], ["short", 22, 19.9, 4.2]];

/** Return the name of the battery in the page's address; null for all batteries. */
function selectedName() {
  const text = location.hash.replace(/^#\/?/, "");
  try {
    return text ? decodeURIComponent(text) : null;
  } catch (error) { // a "%" that is no escape
    return text;
  }
}

function Connection() {
  const status = connection();
  if (status === "connected") return h("p", { class: "connection connected" }, h("span", { class: "dot" }), t.live);
  const age = state.lastMessage ? ` · ${t.asOf(t.ago(duration(elapsed(state.lastMessage), true)))}` : "";
  return status === "connecting"
    ? h("p", { class: "connection" }, `${t.connecting}${elapsed(state.lastMessage || state.connectingSince) > SILENCE_S ? age : ""}`)
    : h("p", { class: "connection offline" }, shape("attention", t.levels.attention), ` ${state.refusal || t.offline}${age}`);
}

/** The worst problem, because its battery may be below the visible part of the page, and how many there are. */
const Worst = ({ problem, count }) => h("a", { class: `worst ${problem.level}`, href: viewUrl(problem.view),
  "aria-label": `${t.levels[problem.level]} ${problem.name}: ${problem.announcement || problem.text}${count > 1 ? ` (${t.more(count - 1)})` : ""}` },
  shape(problem.level), " ",
  count > 1 ? h("span", { class: "count" }, count, h("span", { class: "word" }, ` ${t.problems}`)) : null,
  h("span", { class: "text", key: problem.text }, h("bdi", null, problem.name), `: ${problem.announcement || problem.text}`));

/** A link to this view in the other language. */
const Language = () => h("a", { class: "language", href: `?lang=${t.otherLanguage[0]}${location.hash}`, hreflang: t.otherLanguage[0], lang: t.otherLanguage[0], "aria-label": t.otherLanguage[1] },
  t.otherLanguage[0].toUpperCase());

function Page() {
  const name = selectedName();
  const urgent = name === null && connection() === "connected" ? urgentProblems() : [];
  const problem = urgent[0];
  const battery = name !== null && state.batteries ? state.batteries.find((each) => each.name === name) : null;
  let content;
  if (!state.batteries) content = h("p", { class: "empty" }, connection() === "offline" ? state.refusal || t.offline : t.loading);
  else if (name !== null && !battery) content = h("p", { class: "empty" }, t.noSuch(name));
  else if (battery) content = h(Details, { battery, key: name });
  else if (!state.batteries.length) content = h("p", { class: "empty" }, t.none);
  else content = h("div", { class: "tiles" },
    state.banks.map((each) => h(BankTile, { bank: each, key: `bank ${each.name}` })),
    state.batteries.map((each) => h(Tile, { battery: each, key: each.name })));
  return [
    h("header", { class: `${connection()} ${name === null ? "overview" : ""} ${problem ? "bad" : ""}` },
      name === null ? h("h1", { tabIndex: -1 }, t.title) : [
        h("a", { class: "back", href: "#/", "aria-label": t.all }, h("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, h("path", { d: "M15.5 3l2.6 2.6L11.700 12l6.400 6.400L15.500 21l-9-9z" }))),
        h("h1", { tabIndex: -1 }, h("bdi", null, name))],
      problem ? h(Worst, { problem, count: urgent.length }) : null,
      h(Connection), h(Language)),
    h("main", null, content)];
}

function title() {
  const problem = urgentProblems()[0];
  const view = selectedName() === null ? t.title : `${selectedName()} – ${t.title}`;
  if (connection() === "offline") return `${state.refusal || t.offline} · ${view}`;
  return problem ? `${t.levels[problem.level]}: ${problem.name}: ${problem.announcement || problem.text} · ${view}` : view;
}

let announced = "";

/** Announce changed problems to screen readers, but no numbers and times. */
function announce() {
  const parts = connection() === "offline" ? [state.refusal ? `${state.refusal}.` : t.offlineHint] : [];
  const add = (name, found) => {
    const texts = found.map((each) => each.announcement).filter(Boolean);
    if (texts.length) parts.push(`${name}: ${texts.join(". ")}.`);
  };
  (state.batteries || []).forEach((battery) => add(battery.name, problems(battery)));
  state.banks.forEach((bank) => add(bank.name, ownProblems(bank)));
  const text = parts.join(" ") || (announced ? t.fine : "");
  if (text !== announced) document.getElementById("announcer").textContent = announced = text;
}

const countTiles = () => state.banks.length + (state.batteries || []).length;

/** Choose the form and the number of columns that make the tiles' digits largest; if nothing fits, the page scrolls. */
function fitTiles() {
  const count = countTiles() || 1;
  const root = document.documentElement;
  const rem = parseFloat(getComputedStyle(root).fontSize);
  const width = root.clientWidth - 0.75 * rem;
  const height = root.clientHeight - 3.25 * rem; // without the header
  const smallest = 0.75 * rem; // below it text is not readable
  let best = { unit: 0, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const tileWidth = width / columns - 0.75 * rem;
    const tileHeight = height / rows - 0.75 * rem;
    FORMS.forEach(([form, widthEm, heightEm, digitsEm]) => {
      const unit = Math.min(tileWidth / widthEm, tileHeight / heightEm);
      if (unit >= smallest && unit * digitsEm > best.size) best = { unit, columns, form, size: unit * digitsEm };
    });
  }
  const fits = best.unit > 0;
  if (!fits) {
    const columns = Math.max(1, Math.min(count, Math.floor(width / (23 * rem))));
    best = { columns, form: "short", unit: Math.min(1.25 * rem, (width / columns - 0.75 * rem) / 22) };
  }
  root.className = `${best.form} ${fits ? "fits" : "scrolls"}`;
  root.style.setProperty("--unit", `${Math.floor(best.unit * 4) / 4}px`);
  root.style.setProperty("--columns", best.columns);
  root.style.setProperty("--high", `${root.clientHeight}px`); // on phones, 100vh is more than is visible
}

let fittedCount = -1;

function draw() {
  const count = countTiles();
  if (count !== fittedCount) {
    fittedCount = count;
    fitTiles();
  }
  atOneTime(() => {
    if (document.title !== title()) document.title = title();
    render(h(Page), document.getElementById("page"));
    announce();
  });
}

let shownName = selectedName();

/** Show another view. Move the focus to its heading or, on the way back, to the link of the battery shown before. */
function navigate() {
  const previous = shownName;
  shownName = selectedName();
  draw();
  const origin = shownName === null && previous !== null
    ? Array.from(document.querySelectorAll(".tile a")).find((link) => link.getAttribute("href") === viewUrl(previous)) : null;
  (origin || document.querySelector("h1")).focus({ preventScroll: true });
  if (origin) origin.closest(".tile").scrollIntoView({ block: "nearest" });
  else window.scrollTo(0, 0);
}

function tick() {
  if (document.visibilityState === "hidden") return;
  checkConnection();
  draw();
}

document.documentElement.lang = LANGUAGE;
window.addEventListener("hashchange", navigate);
window.addEventListener("resize", fitTiles);
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", (event) => event.persisted && start(draw));
document.addEventListener("visibilitychange", () => (document.visibilityState === "hidden" ? disconnect() : start(draw)));
setInterval(tick, 1000);
fitTiles();
start(draw);
