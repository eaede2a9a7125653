// The texts of the page in English and German, and the formats of numbers, durations and times.

const EN = {
  title: "Batteries",
  all: "All batteries",
  loading: "Loading …",
  none: "No battery is configured.",
  noSuch: (name) => `There is no battery called “${name}”.`,
  otherLanguage: ["de", "Deutsch"],
  live: "live",
  connecting: "connecting …",
  offline: "Exporter not reached",
  offlineHint: "The exporter is not reached. The values are old.",
  refusals: { 401: "Not allowed", 403: "Not allowed", 429: "Too many requests", 503: "Too many pages are open" },
  asOf: (age) => `as of ${age}`,
  justNow: "just now",
  ago: (time) => `${time} ago`,
  units: { s: "s", min: "min", h: "h", d: (n) => (n === 1 ? "1\u00a0day" : `${n}\u00a0days`) },
  over: (time) => `more than ${time}`,
  since: (at, time) => `since ${at} (${time})`,
  until: (at, time) => `until ${at} (${time} left)`,
  reading: "reading …",
  lastPollFailed: "The last attempt to read it failed",
  of: (nominal) => `of ${nominal}\u00a0Ah`,
  charging: "charging",
  discharging: "discharging",
  resting: "at rest",
  empty: (time) => `empty in ${time}`,
  full: (time) => `full in ${time}`,
  emptyAt: (time) => `empty about ${time}`,
  fullAt: (time) => `full about ${time}`,
  isFull: "full",
  unchanged: "charge stays the same",
  noForecast: "no forecast",
  untilMorning: "Until morning:",
  enough: { yes: "yes", low: "just", no: "no" },
  left: (amount) => `${amount} left`,
  afterNight: "not known yet",
  wiring: { parallel: (n) => `${n} batteries in parallel`, series: (n) => `${n} batteries in series` },
  unequal: "Its batteries are charged unequally",
  apart: (ratio) => `${ratio} apart`,
  unequalHint: "Charge all of them to 100\u00a0%.",
  noTotal: (name, why) => `No total without ${name}. ${why}`,
  voltage: "Voltage",
  power: "Power",
  temperature: "Temperature",
  curve: (from, to) => `Charge over the last 12 hours: ${from} to ${to}\u00a0Ah`,
  noCurve: "No history yet",
  now: "now",
  hoursAgo: (n) => `${n}\u00a0h ago`,
  fine: "All is well",
  levels: { ok: "OK", info: "Note", attention: "Attention", alarm: "Alarm" },
  problems: "problems",
  more: (n) => `and ${n} more`,
  never: "Not read yet",
  old: "No newer value",
  oldHint: "These values are too old to be relied on.",
  notReached: (since) => `Not reached ${since}`,
  paused: (until) => `Left to the phone app ${until}`,
  pausedShort: "Left to the phone app",
  low: (limit) => `Low: below ${limit}`,
  critical: (limit) => `Nearly empty: below ${limit}`,
  frost: "Frost: must not be charged",
  frostCharging: "Is being charged below 0\u00a0°C: stop charging",
  cold: "Cold: below 0\u00a0°C it must not be charged",
  noTemperature: "Temperature not known",
  hot: (limit) => `Hot: above ${limit}`,
  cellLow: (limit) => `A cell is below ${limit}`,
  cellHigh: (limit) => `A cell is above ${limit}`,
  chargeOff: "Charging is switched off",
  dischargeOff: "The output is switched off: no power",
  protections: {
    cell_overvoltage: "Cell voltage too high: charging is blocked",
    cell_undervoltage: "Cell voltage too low: the output is blocked",
    pack_overvoltage: "Battery voltage too high: charging is blocked",
    pack_undervoltage: "Battery voltage too low: the output is blocked",
    charge_overtemperature: "Too hot: charging is blocked",
    charge_undertemperature: "Too cold: charging is blocked",
    discharge_overtemperature: "Too hot: the output is blocked",
    discharge_undertemperature: "Too cold: the output is blocked",
    charge_overcurrent: "Charging current too high: charging is blocked",
    discharge_overcurrent: "Too much current drawn: the output is blocked",
    short_circuit: "Short circuit: the output is blocked",
    frontend_ic_error: "The BMS has a fault (measuring chip)",
    mosfet_software_lock: "The MOSFETs are locked by software",
  },
  protection: (name) => `Protection ${name} is active`,
  failures: {
    adapter: ["Bluetooth does not work on the exporter’s machine", "Switch Bluetooth on (bluetoothctl power on), or check the adapter."],
    not_found: ["not seen", "Phone app connected? Close it. Battery on and near?"],
    connect: ["seen, but no connection", "Is the phone app connected? Move closer; USB 3 devices beside the adapter disturb it."],
    profile: ["this is no JBD battery", "Check its address and profile in the exporter’s configuration."],
    auth: ["it requires a password or pairing", "Check password_file in the configuration, or pair it: bluetoothctl pair ADDRESS."],
    timeout: ["connected, but no answer", "Move closer. If that does not help, switch the battery off and on."],
    link_lost: ["the connection broke off", "Weak signal, or the phone app took over. The exporter tries again by itself."],
    protocol: ["its answers were damaged", "Something disturbs the radio: move closer."],
    device: ["the battery refuses the request", "Switch it off and on. If that does not help, please report it."],
  },
  failure: (reason) => [`it failed (${reason})`, "The exporter tries again by itself."],
  cells: "Cells",
  cell: (n) => `Cell ${n}`,
  spread: "Difference",
  lowest: "Lowest",
  highest: "Highest",
  balancing: "Balancing",
  no: "none",
  noCells: "No cell voltages are known.",
  temperatures: "Temperatures",
  sensor: (n) => `Sensor ${n}`,
  headroom: "Headroom to the limits of the BMS",
  toCutOff: (limit) => `Lowest cell above the cut-off (${limit})`,
  toChargeEnd: (limit) => `Highest cell below the charge limit (${limit})`,
  toFrost: (limit) => `Coldest sensor above the frost limit (${limit})`,
  toHighestCharge: (limit) => `Charging current below the limit (${limit})`,
  toHighestDischarge: (limit) => `Discharging current below the limit (${limit})`,
  limitsRead: (ago) => `The limits are the battery’s own, read ${ago}.`,
  switches: "Switches",
  chargeFet: "Charging (MOSFET)",
  dischargeFet: "Output (MOSFET)",
  heater: "Heater",
  on: "on",
  off: "off",
  blocked: "blocked",
  switchedOff: "switched off",
  battery: "Battery",
  name: "Name",
  nominal: "Nominal capacity",
  fullCapacity: "Learned capacity",
  cycles: "Cycles",
  hardware: "Hardware",
  software: "Software",
  manufactured: "Manufactured",
  address: "Address",
  profile: "Profile",
  restarts: "Restarts of the BMS",
  link: "Radio link",
  rssi: "Signal",
  polls: "Polls",
  failed: "of which failed",
  attempts: "Connection attempts",
  route: "Read through",
  routeText: ({transport, adapter, style}, since) =>
    ({direct: `the kernel, ${adapter}`, bluez: `bluetoothd, ${adapter}`, proxy: `proxy ${adapter}`}[transport] || "a simulation") +
    `${style === "gentle" ? ", gently" : ""}, since ${since}`,
  held: "Connected in total",
  requests: "Requests",
  resends: "Sent again",
  frameErrors: "Damaged frames",
  duration: "Duration of the last poll",
  lastSuccess: "Last successful poll",
  events: "Protections tripped so far",
  state: "State",
  historyHint: "The curve is kept in memory only: a restart of the exporter clears it.",
  lastFailure: "Last failure",
  whatToDo: "What to do",
  phone: "Phone app",
  phoneHint: "A battery talks to one device only. Release it, and the exporter leaves it alone for ten minutes.",
  release: "Release for the phone app (10\u00a0minutes)",
  resume: "Read again",
  refused: (status) => `The exporter refused the request (${status}).`,
  unreachable: "The exporter was not reached.",
};

const DE = {
  title: "Batterien",
  all: "Alle Batterien",
  loading: "Daten werden geladen …",
  none: "Es ist keine Batterie eingerichtet.",
  noSuch: (name) => `Es gibt keine Batterie namens „${name}“.`,
  otherLanguage: ["en", "English"],
  live: "live",
  connecting: "wird verbunden …",
  offline: "Exporter nicht erreichbar",
  offlineHint: "Der Exporter ist nicht erreichbar. Die Werte sind veraltet.",
  refusals: { 401: "Zugriff verweigert", 403: "Zugriff verweigert", 429: "Zu viele Anfragen", 503: "Zu viele Seiten geöffnet" },
  asOf: (age) => `Stand: ${age}`,
  justNow: "gerade eben",
  ago: (time) => `vor ${time}`,
  units: { s: "s", min: "min", h: "h", d: (n, dative) => (n === 1 ? "1\u00a0Tag" : `${n}\u00a0${dative ? "Tagen" : "Tage"}`) },
  over: (time) => `mehr als ${time}`,
  since: (at, time) => `seit ${at} (${time})`,
  until: (at, time) => `bis ${at} (noch\u00a0${time})`,
  reading: "wird ausgelesen …",
  lastPollFailed: "Letzte Abfrage fehlgeschlagen",
  of: (nominal) => `von ${nominal}\u00a0Ah`,
  charging: "Ladung mit",
  discharging: "Entladung mit",
  resting: "In Ruhe:",
  empty: (time) => `leer in ${time}`,
  full: (time) => `voll in ${time}`,
  emptyAt: (time) => `leer gegen ${time}`,
  fullAt: (time) => `voll gegen ${time}`,
  isFull: "voll",
  unchanged: "Ladestand bleibt gleich",
  noForecast: "keine Prognose",
  untilMorning: "Über Nacht:",
  enough: { yes: "ja", low: "knapp", no: "nein" },
  left: (amount) => `noch ${amount}`,
  afterNight: "noch nicht bekannt",
  wiring: { parallel: (n) => `${n} Batterien parallel`, series: (n) => `${n} Batterien in Reihe` },
  unequal: "Batterien ungleich geladen",
  apart: (ratio) => `${ratio} Unterschied`,
  unequalHint: "Alle auf 100\u00a0% laden.",
  noTotal: (name, why) => `Keine Summe ohne ${name}. ${why}`,
  voltage: "Spannung",
  power: "Leistung",
  temperature: "Temperatur",
  curve: (from, to) => `Ladestand der letzten 12 Stunden: ${from} bis ${to}\u00a0Ah`,
  noCurve: "Noch kein Verlauf",
  now: "jetzt",
  hoursAgo: (n) => `vor ${n}\u00a0h`,
  fine: "Alles in Ordnung",
  levels: { ok: "In Ordnung", info: "Hinweis", attention: "Achtung", alarm: "Alarm" },
  problems: "Probleme",
  more: (n) => `und ${n} weitere`,
  never: "Noch nicht ausgelesen",
  old: "Keine neuen Werte",
  oldHint: "Diese Werte sind veraltet und nicht mehr verlässlich.",
  notReached: (since) => `Nicht erreichbar ${since}`,
  paused: (until) => `Für die Handy-App freigegeben ${until}`,
  pausedShort: "Für die Handy-App freigegeben",
  low: (limit) => `Ladestand niedrig: unter ${limit}`,
  critical: (limit) => `Fast leer: unter ${limit}`,
  frost: "Frost: nicht laden",
  frostCharging: "Wird bei unter 0\u00a0°C geladen: Laden beenden",
  cold: "Kalt: unter 0\u00a0°C nicht laden",
  noTemperature: "Temperatur unbekannt",
  hot: (limit) => `Heiß: über ${limit}`,
  cellLow: (limit) => `Eine Zelle liegt unter ${limit}`,
  cellHigh: (limit) => `Eine Zelle liegt über ${limit}`,
  chargeOff: "Laden ist abgeschaltet",
  dischargeOff: "Der Ausgang ist abgeschaltet: kein Strom",
  protections: {
    cell_overvoltage: "Zellspannung zu hoch: Laden gesperrt",
    cell_undervoltage: "Zellspannung zu niedrig: Ausgang gesperrt",
    pack_overvoltage: "Batteriespannung zu hoch: Laden gesperrt",
    pack_undervoltage: "Batteriespannung zu niedrig: Ausgang gesperrt",
    charge_overtemperature: "Zu heiß: Laden gesperrt",
    charge_undertemperature: "Zu kalt: Laden gesperrt",
    discharge_overtemperature: "Zu heiß: Ausgang gesperrt",
    discharge_undertemperature: "Zu kalt: Ausgang gesperrt",
    charge_overcurrent: "Ladestrom zu hoch: Laden gesperrt",
    discharge_overcurrent: "Zu viel Strom entnommen: Ausgang gesperrt",
    short_circuit: "Kurzschluss: Ausgang gesperrt",
    frontend_ic_error: "Fehler im BMS (Messchip)",
    mosfet_software_lock: "MOSFETs per Software gesperrt",
  },
  protection: (name) => `Schutz ${name} ist aktiv`,
  failures: {
    adapter: ["Bluetooth funktioniert auf dem Rechner des Exporters nicht", "Bluetooth einschalten (bluetoothctl power on) oder den Adapter prüfen."],
    not_found: ["nicht gefunden", "Handy-App schließen. Batterie an und in Reichweite?"],
    connect: ["gefunden, aber keine Verbindung möglich", "Ist die Handy-App verbunden? Näher herangehen; USB-3-Geräte neben dem Adapter stören den Funk."],
    profile: ["das ist keine JBD-Batterie", "Adresse und Profil in der Konfiguration des Exporters prüfen."],
    auth: ["sie verlangt ein Passwort oder eine Kopplung", "password_file in der Konfiguration prüfen oder koppeln: bluetoothctl pair ADRESSE."],
    timeout: ["verbunden, aber keine Antwort", "Näher herangehen. Hilft das nicht, die Batterie aus- und wieder einschalten."],
    link_lost: ["die Verbindung ist abgebrochen", "Schwaches Signal, oder die Handy-App hat übernommen. Der Exporter versucht es von selbst erneut."],
    protocol: ["ihre Antworten waren beschädigt", "Etwas stört den Funk: näher herangehen."],
    device: ["die Batterie lehnt die Anfrage ab", "Aus- und wieder einschalten. Hilft das nicht, bitte melden."],
  },
  failure: (reason) => [`Abfrage fehlgeschlagen (${reason})`, "Der Exporter versucht es von selbst erneut."],
  cells: "Zellen",
  cell: (n) => `Zelle ${n}`,
  spread: "Differenz",
  lowest: "Niedrigste",
  highest: "Höchste",
  balancing: "Balancing",
  no: "keine",
  noCells: "Es sind keine Zellspannungen bekannt.",
  temperatures: "Temperaturen",
  sensor: (n) => `Sensor ${n}`,
  headroom: "Abstand zu den Grenzen des BMS",
  toCutOff: (limit) => `Niedrigste Zelle bis zur Abschaltung (${limit})`,
  toChargeEnd: (limit) => `Höchste Zelle bis zum Ladestopp (${limit})`,
  toFrost: (limit) => `Kältester Sensor bis zur Frostgrenze (${limit})`,
  toHighestCharge: (limit) => `Ladestrom bis zum Höchstwert (${limit})`,
  toHighestDischarge: (limit) => `Entladestrom bis zum Höchstwert (${limit})`,
  limitsRead: (ago) => `Die Grenzen sind die der Batterie, ausgelesen ${ago}.`,
  switches: "Schalter",
  chargeFet: "Laden (MOSFET)",
  dischargeFet: "Ausgang (MOSFET)",
  heater: "Heizung",
  on: "an",
  off: "aus",
  blocked: "gesperrt",
  switchedOff: "abgeschaltet",
  battery: "Batterie",
  name: "Name",
  nominal: "Nennkapazität",
  fullCapacity: "Gelernte Kapazität",
  cycles: "Ladezyklen",
  hardware: "Hardware",
  software: "Software",
  manufactured: "Hergestellt am",
  address: "Adresse",
  profile: "Profil",
  restarts: "Neustarts des BMS",
  link: "Funkverbindung",
  rssi: "Signalstärke",
  polls: "Abfragen",
  failed: "davon fehlgeschlagen",
  attempts: "Verbindungsversuche",
  route: "Ausgelesen über",
  routeText: ({transport, adapter, style}, since) =>
    ({direct: `den Kernel, ${adapter}`, bluez: `bluetoothd, ${adapter}`, proxy: `Proxy ${adapter}`}[transport] || "eine Simulation") +
    `${style === "gentle" ? ", schonend" : ""}, seit ${since}`,
  held: "Insgesamt verbunden",
  requests: "Anfragen",
  resends: "Wiederholte Anfragen",
  frameErrors: "Fehlerhafte Datenpakete",
  duration: "Dauer der letzten Abfrage",
  lastSuccess: "Zuletzt erfolgreich",
  events: "Bisherige Schutzabschaltungen",
  state: "Zustand",
  historyHint: "Der Verlauf liegt nur im Arbeitsspeicher: Ein Neustart des Exporters löscht ihn.",
  lastFailure: "Letzter Fehler",
  whatToDo: "Was tun",
  phone: "Handy-App",
  phoneHint: "Eine Batterie kann nur mit einem Gerät verbunden sein. Nach der Freigabe liest der Exporter sie zehn Minuten lang nicht aus.",
  release: "Für die Handy-App freigeben (10\u00a0Minuten)",
  resume: "Wieder auslesen",
  refused: (status) => `Der Exporter hat die Anfrage abgelehnt (${status}).`,
  unreachable: "Der Exporter ist nicht erreichbar.",
};

const MESSAGES = { de: DE, en: EN };

/** Return the languages in the order of preference: `?lang=de` in the address, now or earlier, then the browser's. */
function preferredLanguages() {
  const own = navigator.languages || [navigator.language || "en"];
  let chosen = new URLSearchParams(location.search).get("lang");
  try { // a browser that forbids cookies throws
    if (chosen) localStorage.setItem("language", chosen);
    else chosen = localStorage.getItem("language");
  } catch (error) {
    // the choice is valid for this address only
  }
  const variants = own.filter((each) => each.slice(0, 2).toLowerCase() === chosen); // de-AT rather than de
  return [...variants, ...(chosen ? [chosen] : []), ...own];
}

const tag = preferredLanguages().find((each) => /^(de|en)(-|$)/i.test(each)) || "en";

export const LANGUAGE = tag.slice(0, 2).toLowerCase();
export const t = MESSAGES[LANGUAGE];
export const DASH = "–";

const CLOCK_S = 64800; // 18 hours: beyond, a time of day needs its date
const formats = {};

/** Format a number with `digits` decimals; a dash if it is unknown. */
export function number(value, digits) {
  if (value === null || value === undefined) return DASH;
  const format = formats[digits] || (formats[digits] = new Intl.NumberFormat(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const scale = 10 ** digits;
  const text = format.format(Math.round(Math.abs(value) * scale) / scale);
  return value < 0 && Math.round(-value * scale) > 0 ? `−${text}` : text; // never "−0.0"
}

/** Format a number with its unit; the no-break space keeps both on one line. */
export const measure = (value, digits, unit) => (value === null || value === undefined ? DASH : `${number(value, digits)}\u00a0${unit}`);

/** Format a duration: "45 s", "12 min", "3 h 20 min", "2 days"; `dative` for the German "vor 2 Tagen". */
export function duration(seconds, dative) {
  const { s, min, h, d } = t.units;
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes < 1) return `${Math.max(0, Math.floor(seconds))}\u00a0${s}`;
  if (hours < 1) return `${minutes}\u00a0${min}`;
  if (hours < 10 && minutes % 60) return `${hours}\u00a0${h} ${minutes % 60}\u00a0${min}`;
  return hours < 48 ? `${hours}\u00a0${h}` : d(Math.floor(hours / 24), dative);
}

/** Format a forecast duration, rounded more coarsely the longer it is. */
export function forecast(seconds) {
  const days = 86400;
  if (seconds > 30 * days) return t.over(t.units.d(30, true));
  if (seconds < 3600) return duration(Math.max(60, seconds));
  if (seconds < 36000) return duration(Math.round(seconds / 600) * 600);
  if (seconds < 2 * days) return duration(Math.round(seconds / 3600) * 3600);
  return t.units.d(Math.round(seconds / days), true);
}

/** Return the text of an event `seconds` from now: at a time, rounded to ten minutes; later than today, in a duration. */
export function expected(seconds, inDuration, atTime) {
  if (seconds < 3600 || seconds > CLOCK_S - 600) return inDuration(forecast(seconds));
  const passed = Date.now() / 1000;
  return atTime(moment(Math.round((passed + seconds) / 600) * 600 - passed));
}

/** Format an age: "just now", "5 min ago". */
export const age = (seconds) => (seconds < 60 ? t.justNow : t.ago(duration(seconds, true)));

/** Format the time `seconds` from now, by this device's clock; with the date if it is more than 18 hours away. */
export function moment(seconds) {
  const at = new Date(Date.now() + seconds * 1000);
  const time = { hour: "2-digit", minute: "2-digit" };
  const needsDate = Math.abs(seconds) > CLOCK_S;
  return new Intl.DateTimeFormat(tag, needsDate ? { weekday: "short", day: "numeric", month: "short", ...time } : time).format(at);
}

/** Format a date given as 2024-05-01. */
export const day = (iso) => new Intl.DateTimeFormat(tag, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" }).format(new Date(`${iso}T00:00:00Z`));
