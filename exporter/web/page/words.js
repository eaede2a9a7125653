// What the page says, in German and English; how it writes numbers and times.

const EN = {
  title: "Batteries",
  all: "All batteries",
  loading: "Asking the exporter …",
  none: "No battery is configured.",
  noSuch: (name) => `There is no battery called “${name}”.`,
  live: "live",
  connecting: "connecting …",
  offline: "Exporter not reached",
  offlineHint: "The exporter is not reached: the values are old.",
  refusals: { 401: "Not allowed", 403: "Not allowed", 429: "Asked too often", 503: "Too many pages are open" },
  asOf: (age) => `as of ${age}`,
  justNow: "just now",
  ago: (time) => `${time} ago`,
  units: { s: "s", min: "min", h: "h", d: (n) => (n === 1 ? "1 day" : `${n} days`) },
  over: (time) => `more than ${time}`,
  since: (at, time) => `since ${at} (${time})`,
  until: (at, time) => `until ${at} (${time} left)`,
  reading: "reading …",
  lastTryFailed: "The last try to read it failed",
  of: (nominal) => `of ${nominal} Ah`,
  charging: "charging",
  discharging: "discharging",
  resting: "at rest",
  empty: (time) => `empty in ${time}`,
  full: (time) => `full in ${time}`,
  voltage: "Voltage",
  power: "Power",
  current: "Current",
  temperature: "Temperature",
  remaining: "Remaining",
  curve: (from, to) => `Charge over the last 12 hours: ${from} to ${to} Ah`,
  noCurve: "No history yet",
  now: "now",
  hours: (n) => `${n} h ago`,
  fine: "All is well",
  levels: { ok: "OK", info: "Note", attention: "Attention", alarm: "Alarm" },
  more: (n) => `and ${n} more`,
  never: "Not read yet",
  old: "No newer value",
  oldHint: "These values are too old to be relied on.",
  notReached: (since) => `Not reached ${since}`,
  paused: (until) => `Left to the phone app ${until}`,
  pausedShort: "Left to the phone app",
  low: "Low: below 20 %",
  critical: "Nearly empty: below 10 %",
  frost: "Frost: must not be charged",
  frostCharging: "Is being charged below 0 °C: stop charging",
  cold: "Cold: below 0 °C it must not be charged",
  noTemperature: "Temperature not known",
  hot: "Hot: above 50 °C",
  cellLow: "A cell is below 2.8 V",
  cellHigh: "A cell is above 3.65 V",
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
    charge_overcurrent: "Charged with too much current: charging is blocked",
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
    auth: ["it wants a password or pairing", "Check password_file in the configuration, or pair it: bluetoothctl pair ADDRESS."],
    timeout: ["connected, but no answer", "Move closer. If that does not help, switch the battery off and on."],
    link_lost: ["the connection broke off", "Weak signal, or the phone app took over. It is tried again by itself."],
    protocol: ["its answers were damaged", "Something disturbs the radio: move closer."],
    device: ["the battery refuses to tell", "Switch it off and on. If it stays so, please report it."],
  },
  failure: (reason) => [`it failed (${reason})`, "It is tried again by itself."],
  cells: "Cells",
  cell: (n) => `Cell ${n}`,
  spread: "Spread",
  lowest: "Lowest",
  highest: "Highest",
  balancing: "Balancing",
  no: "none",
  noCells: "No cell voltages are known.",
  temperatures: "Temperatures",
  sensor: (n) => `Sensor ${n}`,
  switches: "Switches",
  chargeFet: "Charging (MOSFET)",
  dischargeFet: "Output (MOSFET)",
  heater: "Heater",
  on: "on",
  off: "off",
  battery: "Battery",
  name: "Name",
  nominal: "Nominal capacity",
  fullCapacity: "Full charge",
  cycles: "Cycles",
  hardware: "Hardware",
  software: "Software",
  manufactured: "Made on",
  address: "Address",
  profile: "Profile",
  restarts: "Restarts of the BMS",
  link: "Radio link",
  rssi: "Signal",
  polls: "Readings tried",
  failed: "of these failed",
  attempts: "Connections tried",
  held: "Held in all",
  requests: "Requests",
  resends: "Sent again",
  frameErrors: "Damaged frames",
  duration: "Last reading took",
  lastSuccess: "Last success",
  events: "Protection has tripped so far",
  state: "State",
  history: "Last 12 hours",
  historyHint: "The curve is kept in memory only: a restart of the exporter empties it.",
  lastFailure: "Last failure",
  whatToDo: "What to do",
  phone: "Phone app",
  phoneHint: "A battery talks to one device only. Release it, and the exporter keeps off it for ten minutes.",
  release: "Release for the phone app (10\u00a0minutes)",
  resume: "Read again",
  refused: (status) => `The exporter refused (${status}).`,
  unreachable: "The exporter was not reached.",
};

const DE = {
  title: "Batterien",
  all: "Alle Batterien",
  loading: "Frage den Exporter …",
  none: "Es ist keine Batterie eingerichtet.",
  noSuch: (name) => `Es gibt keine Batterie namens „${name}“.`,
  live: "live",
  connecting: "verbinde …",
  offline: "Exporter nicht erreicht",
  offlineHint: "Der Exporter ist nicht erreichbar: die Werte sind alt.",
  refusals: { 401: "Nicht erlaubt", 403: "Nicht erlaubt", 429: "Zu oft gefragt", 503: "Zu viele Seiten sind offen" },
  asOf: (age) => `Stand: ${age}`,
  justNow: "gerade eben",
  ago: (time) => `vor ${time}`,
  units: { s: "s", min: "min", h: "h", d: (n, dative) => (n === 1 ? "1 Tag" : `${n} ${dative ? "Tagen" : "Tage"}`) },
  over: (time) => `mehr als ${time}`,
  since: (at, time) => `seit ${at} (${time})`,
  until: (at, time) => `bis ${at} (noch ${time})`,
  reading: "liest …",
  lastTryFailed: "Der letzte Leseversuch misslang",
  of: (nominal) => `von ${nominal} Ah`,
  charging: "lädt",
  discharging: "entlädt",
  resting: "ruht",
  empty: (time) => `leer in ${time}`,
  full: (time) => `voll in ${time}`,
  voltage: "Spannung",
  power: "Leistung",
  current: "Strom",
  temperature: "Temperatur",
  remaining: "Rest",
  curve: (from, to) => `Ladung der letzten 12 Stunden: ${from} bis ${to} Ah`,
  noCurve: "Noch kein Verlauf",
  now: "jetzt",
  hours: (n) => `vor ${n} h`,
  fine: "Alles in Ordnung",
  levels: { ok: "In Ordnung", info: "Hinweis", attention: "Achtung", alarm: "Alarm" },
  more: (n) => `und ${n} mehr`,
  never: "Noch nicht gelesen",
  old: "Kein neuerer Wert",
  oldHint: "Diese Werte sind zu alt, um sich auf sie zu verlassen.",
  notReached: (since) => `Nicht erreicht ${since}`,
  paused: (until) => `Frei für die Handy-App ${until}`,
  pausedShort: "Frei für die Handy-App",
  low: "Niedrig: unter 20 %",
  critical: "Fast leer: unter 10 %",
  frost: "Frost: darf nicht geladen werden",
  frostCharging: "Wird unter 0 °C geladen: Laden beenden",
  cold: "Kalt: unter 0 °C nicht laden",
  noTemperature: "Temperatur nicht bekannt",
  hot: "Heiß: über 50 °C",
  cellLow: "Eine Zelle ist unter 2,8 V",
  cellHigh: "Eine Zelle ist über 3,65 V",
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
    frontend_ic_error: "Das BMS hat einen Fehler (Messchip)",
    mosfet_software_lock: "Die MOSFETs sind per Software gesperrt",
  },
  protection: (name) => `Schutz ${name} ist aktiv`,
  failures: {
    adapter: ["Bluetooth geht am Rechner des Exporters nicht", "Bluetooth einschalten (bluetoothctl power on) oder den Adapter prüfen."],
    not_found: ["nicht gesehen", "Handy-App verbunden? Schließen. Batterie an und nah?"],
    connect: ["gesehen, aber keine Verbindung", "Ist die Handy-App verbunden? Näher heran; USB-3-Geräte neben dem Adapter stören."],
    profile: ["das ist keine JBD-Batterie", "Adresse und Profil in der Konfiguration des Exporters prüfen."],
    auth: ["sie will ein Passwort oder eine Kopplung", "password_file in der Konfiguration prüfen, oder koppeln: bluetoothctl pair ADRESSE."],
    timeout: ["verbunden, aber keine Antwort", "Näher heran. Hilft das nicht: Batterie aus- und wieder einschalten."],
    link_lost: ["die Verbindung ist abgerissen", "Schwacher Funk, oder die Handy-App hat übernommen. Es wird von selbst neu versucht."],
    protocol: ["ihre Antworten waren beschädigt", "Etwas stört den Funk: näher heran."],
    device: ["die Batterie verweigert die Auskunft", "Aus- und wieder einschalten. Bleibt es so, bitte melden."],
  },
  failure: (reason) => [`es ist misslungen (${reason})`, "Es wird von selbst neu versucht."],
  cells: "Zellen",
  cell: (n) => `Zelle ${n}`,
  spread: "Unterschied",
  lowest: "Niedrigste",
  highest: "Höchste",
  balancing: "Wird ausgeglichen",
  no: "keine",
  noCells: "Es sind keine Zellspannungen bekannt.",
  temperatures: "Temperaturen",
  sensor: (n) => `Fühler ${n}`,
  switches: "Schalter",
  chargeFet: "Laden (MOSFET)",
  dischargeFet: "Ausgang (MOSFET)",
  heater: "Heizung",
  on: "an",
  off: "aus",
  battery: "Batterie",
  name: "Name",
  nominal: "Nennkapazität",
  fullCapacity: "Volle Ladung",
  cycles: "Zyklen",
  hardware: "Hardware",
  software: "Software",
  manufactured: "Hergestellt am",
  address: "Adresse",
  profile: "Profil",
  restarts: "Neustarts des BMS",
  link: "Funkverbindung",
  rssi: "Signal",
  polls: "Leseversuche",
  failed: "davon misslungen",
  attempts: "Verbindungsversuche",
  held: "Belegt insgesamt",
  requests: "Anfragen",
  resends: "Wiederholt",
  frameErrors: "Beschädigte Rahmen",
  duration: "Letztes Lesen dauerte",
  lastSuccess: "Letzter Erfolg",
  events: "Schutz hat bisher ausgelöst",
  state: "Zustand",
  history: "Letzte 12 Stunden",
  historyHint: "Der Verlauf steht nur im Arbeitsspeicher: ein Neustart des Exporters leert ihn.",
  lastFailure: "Letzter Fehler",
  whatToDo: "Was tun",
  phone: "Handy-App",
  phoneHint: "Eine Batterie spricht nur mit einem Gerät. Wird sie freigegeben, lässt der Exporter sie zehn Minuten in Ruhe.",
  release: "Für die Handy-App freigeben (10\u00a0Minuten)",
  resume: "Wieder lesen",
  refused: (status) => `Der Exporter hat abgelehnt (${status}).`,
  unreachable: "Der Exporter wurde nicht erreicht.",
};

const WORDS = { de: DE, en: EN };
const tag = (navigator.languages || [navigator.language || "en"])
  .find((each) => WORDS[each.slice(0, 2).toLowerCase()]) || "en";

export const LANGUAGE = tag.slice(0, 2).toLowerCase();
export const W = WORDS[LANGUAGE];
export const DASH = "–";

const formats = {};

/** Write a number with so many digits after the comma; a dash for what is not known. */
export function number(value, digits) {
  if (value === null || value === undefined) return DASH;
  const format = formats[digits] || (formats[digits] = new Intl.NumberFormat(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const scale = 10 ** digits;
  const text = format.format(Math.round(Math.abs(value) * scale) / scale);
  return value < 0 && Math.round(-value * scale) > 0 ? `−${text}` : text; // never "-0,0"
}

/** Write a number with its unit, never broken in two lines. */
export const measure = (value, digits, unit) => (value === null || value === undefined ? DASH : `${number(value, digits)}\u00a0${unit}`);

/** Write how long something has lasted: "45 s", "12 min", "3 h 20 min", "2 days". */
export function duration(seconds, dative) {
  const { s, min, h, d } = W.units;
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes < 1) return `${Math.max(0, Math.floor(seconds))}\u00a0${s}`;
  if (hours < 1) return `${minutes}\u00a0${min}`;
  if (hours < 10 && minutes % 60) return `${hours}\u00a0${h} ${minutes % 60}\u00a0${min}`;
  return hours < 48 ? `${hours}\u00a0${h}` : d(Math.floor(hours / 24), dative);
}

/** Write a forecast, as coarsely as it is sure. */
export function forecast(seconds) {
  const days = 86400;
  if (seconds > 30 * days) return W.over(W.units.d(30, true));
  if (seconds < 3600) return duration(Math.max(60, seconds));
  if (seconds < 36000) return duration(Math.round(seconds / 600) * 600);
  if (seconds < 2 * days) return duration(Math.round(seconds / 3600) * 3600);
  return W.units.d(Math.round(seconds / days), true);
}

/** Write an age: "just now", "5 min ago". */
export const age = (seconds) => (seconds < 60 ? W.justNow : W.ago(duration(seconds, true)));

/** Write when something `seconds` from now is or was, by this device's clock. */
export function moment(seconds) {
  const at = new Date(Date.now() + seconds * 1000);
  const time = { hour: "2-digit", minute: "2-digit" };
  const far = Math.abs(seconds) > 64800;
  return new Intl.DateTimeFormat(tag, far ? { weekday: "short", day: "numeric", month: "short", ...time } : time).format(at);
}

/** Write a day of the form 2024-05-01. */
export const day = (iso) => new Intl.DateTimeFormat(tag, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" }).format(new Date(`${iso}T00:00:00Z`));
