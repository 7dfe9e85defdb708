// The timeline: a lane a member, over a stretch of time that can be chosen and moved.

const RANGES = [["1 min", 60], ["5 min", 300], ["15 min", 900], ["1 h", 3600], ["1 d", 86400]];
const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600];
const NOTED = {  // what is marked in a lane, beside its role
  quorum: "lost", pause: null, ballot: null, conflict: null, fence: "begun", server: "lost",
};
const HOUR = 3600;

const view = {length: HOUR, chosen: false, end: 0};  // seconds; the end is that long ago

function makeZoom() {
  for (const [name, length] of RANGES) {
    const label = make("label", ` ${name}`);
    const input = make("input", undefined, {type: "radio", name: "zoom", value: length});
    input.addEventListener("change", () => {
      view.chosen = true;
      show(length, view.end);
    });
    label.prepend(input);
    $("zoom").append(label);
  }
  $("earlier").addEventListener("click", () => show(view.length, view.end + view.length / 2));
  $("later").addEventListener("click", () => show(view.length, view.end - view.length / 2));
  let drag = null;
  const lanes = $("lanes");
  lanes.addEventListener("pointerdown", (event) => {
    drag = {x: event.clientX, end: view.end};
    lanes.setPointerCapture(event.pointerId);
  });
  lanes.addEventListener("pointermove", (event) => {
    if (drag !== null) show(view.length, drag.end + (event.clientX - drag.x) / lanes.clientWidth * view.length);
  });
  for (const name of ["pointerup", "pointercancel"]) lanes.addEventListener(name, () => { drag = null; });
  new ResizeObserver(() => past && paintLanes()).observe($("past"));
}

function show(length, end) {
  view.length = length;
  view.end = Math.max(0, end);
  if (view.end < length / 100) view.end = 0;
  paintLanes();
}

// Until somebody chooses: the shortest stretch that shows all that is known, at most an hour.
function chooseLength() {
  const spans = Object.values(past.lanes).flatMap((lane) => lane.spans);
  const oldest = Math.max(0, ...spans.map((each) => each.since_ago)) + since(past.at);
  view.length = (RANGES.find(([, length]) => length >= oldest && length <= HOUR) || RANGES[3])[1];
}

function paintLanes() {
  if (past === null || cluster === null) return;
  if (!view.chosen && view.end === 0) chooseLength();
  for (const input of $("zoom").querySelectorAll("input")) input.checked = Number(input.value) === view.length;
  $("later").disabled = view.end === 0;
  const ids = cluster.members.map((member) => member.node_id);
  const svg = $("lanes");
  const width = Math.max(280, svg.clientWidth || svg.parentNode.clientWidth - 40);
  const many = ids.length > 9;
  const longest = Math.max(...ids.map((id) => id.length));
  const area = {
    left: Math.min(width / 4, 14 + longest * 8), right: width - 1, top: 42, high: many ? 12 : 24, gap: many ? 4 : 9,
    late: since(past.at), many, noted: happened().filter(isNoted),
  };
  area.x = (ago) => area.right - (ago + area.late - view.end) / view.length * (area.right - area.left);
  area.bottom = area.top + ids.length * (area.high + area.gap) - area.gap;
  set(svg, {viewBox: `0 0 ${width} ${area.bottom + 24}`, height: area.bottom + 24, "aria-label": lanesInWords(ids)});
  const clip = draw("clipPath", {id: "stretch"}, draw("rect", {x: area.left, y: 0, width: area.right - area.left, height: area.bottom + 6}));
  const inside = draw("g", {"clip-path": "url" + "(#stretch)"});
  inside.append(...ticks(area, true), ...ids.flatMap((id, at) => laneOf(id, at, area)), ...flags(area));
  svg.replaceChildren(clip, ...ids.map((id, at) => laneName(id, at, area)), inside, ...ticks(area, false));
  put($("past-title"), stretchInWords());
  paintKeys();
}

const laneTop = (at, area) => area.top + at * (area.high + area.gap);

function laneName(id, at, area) {
  const room = Math.floor((area.left - 10) / 8);
  const name = [...id].length > room ? `${[...id].slice(0, room - 1).join("")}…` : id;
  return draw("text", {class: "lane-id", x: 0, y: laneTop(at, area) + area.high / 2 + 4.5}, name);
}

function laneOf(id, at, area) {
  const top = laneTop(at, area);
  const box = (from, to, attributes) => draw("rect", {x: from, y: top, width: Math.max(1.5, to - from), height: area.high, rx: Math.min(4, (to - from) / 2), ...attributes});
  const found = [box(area.left, area.right, {class: "lane", rx: 4})];
  const lane = past.lanes[id] || {spans: [], outages: []};
  for (const each of lane.spans) {
    const from = area.x(each.since_ago), to = area.x(each.until_ago === null ? -area.late : each.until_ago);
    if (to < area.left || from > area.right) continue;
    const [left, right] = [Math.max(from, area.left - 6), Math.min(to, area.right)];
    found.push(box(left, Math.max(left, right - (each.until_ago === null ? 0 : 1)), {class: `span ${each.role}`}));
    const text = each.role === "primary" ? [`★ epoch ${each.epoch}`, `★ ${each.epoch}`, "★"] : each.role === "gone" ? ["not reached"] : [];
    const start = Math.max(from, area.left);
    const fits = text.find((words) => words.length * 6.8 + 14 < right - start);
    if (fits && !area.many) found.push(draw("text", {class: each.role === "primary" ? "on" : "absent", x: start + 8, y: top + area.high / 2 + 4.5}, fits));
    found[found.length - 1].append(draw("title", {}, `${id}: ${roleInWords(each)}`));
  }
  for (const [from, to] of lane.outages) found.push(box(area.x(from), area.x(to), {class: "span gone"}));
  for (const event of area.noted) {
    if (event.node_id !== id) continue;
    const x = area.x(event.ago), y = top + area.high;
    found.push(draw("path", {class: "notch", d: `M${x} ${y - 8}l5 8h-10z`}, draw("title", {}, `${clock(dateOf(event.ago + area.late))} ${id}: ${event.text}`)));
  }
  return found;
}

const happened = () => past.epochs.flatMap((epoch) => epoch.events);
const isNoted = (event) => event.critical || (event.kind in NOTED && (NOTED[event.kind] === null || NOTED[event.kind] === event.cause));

function roleInWords(each) {
  const role = {primary: `primary of epoch ${each.epoch}`, candidate: "asked for votes", gone: "not reached", replica: "replica"}[each.role];
  const late = since(past.at);
  const from = clock(dateOf(each.since_ago + late));
  return `${role} from ${from} ${each.until_ago === null ? "until now" : `to ${clock(dateOf(each.until_ago + late))}`}`;
}

// An election is a line through all lanes, with words where there is room for them.
function flags(area) {
  const found = [], taken = [[], []];
  for (const epoch of past.epochs) {
    if (epoch.primary === null || epoch.elected_ago === null) continue;
    const x = area.x(epoch.elected_ago);
    if (x < area.left || x > area.right) continue;
    found.push(draw("line", {class: "flag", x1: x, y1: area.top - 8, x2: x, y2: area.bottom + 4}), draw("circle", {class: "dot", cx: x, cy: area.top - 8, r: 2.5}));
    const time = clock(dateOf(epoch.elected_ago + area.late));
    const long = `${time} ${epoch.primary} elected${epoch.why === null ? "" : `: ${epoch.why}`}`;
    for (const words of [long, `${time} ${epoch.primary} elected`, epoch.primary]) {
      if (placeFlag(words, x, area, taken, found)) break;
    }
  }
  return found;
}

function placeFlag(words, x, area, taken, found) {
  const wide = words.length * 6.9 + 10;
  for (const [anchor, from] of [["start", x - 3], ["end", Math.min(x + 3, area.right - 1) - wide]]) {
    if (from < area.left - 3 || from + wide > area.right) continue;
    const row = taken.findIndex((others) => others.every(([left, right]) => from + wide < left || from > right));
    if (row < 0) continue;
    taken[row].push([from, from + wide]);
    const attributes = {class: "flag-text", x: anchor === "start" ? from : from + wide, y: area.top - 16 - 14 * row, "text-anchor": anchor};
    found.push(draw("text", attributes, words));
    return true;
  }
  return false;
}

function ticks(area, lines) {
  const step = STEPS.find((each) => view.length / each <= Math.max(3, (area.right - area.left) / 110)) || 43200;
  const now = Date.now() / 1000 - view.end;
  const zone = new Date().getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((now - view.length - zone) / step) * step + zone; at <= now; at += step) {
    const x = area.right - (now - at) / view.length * (area.right - area.left);
    if (lines) {
      found.push(draw("line", {class: "grid", x1: x, y1: area.top, x2: x, y2: area.bottom + 4}));
      continue;
    }
    const text = clock(new Date(at * 1000)).replace(step < 60 ? /^$/ : /:\d\d$/, "");
    const [anchor, room] = x - area.left < 20 ? ["start", true] : ["middle", area.right - x > (view.end === 0 ? 56 : 24)];
    if (room) found.push(draw("text", {class: "tick", x, y: area.bottom + 19, "text-anchor": anchor}, text));
  }
  if (!lines && view.end === 0) found.push(draw("text", {class: "tick", x: area.right, y: area.bottom + 19, "text-anchor": "end"}, "now"));
  return found;
}

function stretchInWords() {
  const name = {60: "minute", 300: "5 minutes", 900: "15 minutes", 3600: "hour", 86400: "day"}[view.length];
  if (view.end === 0) return `The last ${name}`;
  return `From ${clock(dateOf(view.end + view.length))} to ${clock(dateOf(view.end))}`;
}

function lanesInWords(ids) {
  return ids.map((id) => {
    const spans = (past.lanes[id] || {spans: []}).spans.slice(-6);
    return `${id}: ${spans.length ? spans.map(roleInWords).join(", ") : "nothing is known"}`;
  }).join(". ");
}

function paintKeys() {
  const spans = Object.values(past.lanes);
  const roles = new Set(spans.flatMap((lane) => [...lane.spans.map((each) => each.role), ...(lane.outages.length ? ["gone"] : [])]));
  const notes = happened().some(isNoted);
  const names = [["primary", "primary"], ["replica", "replica"], ["candidate", "asks for votes"], ["gone", "not reached"]];
  const key = names.filter(([role]) => roles.has(role)).map(([role, words]) => [draw("rect", {class: `span ${role}`, x: 1, y: 1, width: 18, height: 10, rx: 3}), words]);
  if (notes) key.push([draw("path", {class: "notch", d: "M10 2l5 8h-10z"}), "something went wrong: see epochs and events"]);
  const content = key.map(([, words]) => words).join();
  if ($("keys").dataset.content === content) return;
  $("keys").dataset.content = content;
  $("keys").replaceChildren(...key.map(([shape, words]) => {
    const item = make("li");
    item.append(draw("svg", {width: 20, height: 12, viewBox: "0 0 20 12", "aria-hidden": "true"}, shape), words);
    return item;
  }));
}

// The same in words: the latest elections, then all epochs with their events.

function electionInWords(epoch, next) {
  const parts = [];
  if (epoch.elected_ago !== null) parts.push(timeOf(epoch.elected_ago + since(past.at), false), " ");
  const number = epoch.epoch === null ? "an epoch that is not told" : `epoch ${epoch.epoch}`;
  const head = make("b", epoch.primary === null ? `Nobody was elected in ${number}` : `${epoch.primary} was elected primary of ${number}`);
  parts.push(head, epoch.why === null ? "." : epoch.primary === null ? `: ${epoch.why}.` : ` because ${epoch.why}.`);
  if (epoch.elected_ago !== null) parts.push(next ? ` It lasted ${span(epoch.elected_ago - next.elected_ago)}.` : ` That was ${span(epoch.elected_ago + since(past.at))} ago.`);
  return parts;
}

function paintEpochs() {
  const elected = past.epochs.filter((epoch) => epoch.primary !== null && epoch.elected_ago !== null);
  const after = (epoch) => elected[elected.indexOf(epoch) - 1] || null;
  $("recent").replaceChildren(...elected.slice(0, 3).map((epoch) => {
    const item = make("li");
    item.append(...electionInWords(epoch, after(epoch)));
    return item;
  }));
  if (!$("epochs").open) return;
  $("epochs").querySelector("ol").replaceChildren(...past.epochs.map((epoch) => {
    const item = make("li");
    const head = make("p");
    head.append(...electionInWords(epoch, epoch.elected_ago === null || epoch.primary === null ? null : after(epoch)));
    const events = make("ul");
    for (const event of epoch.events) {
      const each = make("li");
      each.append(timeOf(event.ago + since(past.at)), " ", make("b", event.node_id), ` ${event.critical ? "critical: " : ""}${event.text}`);
      events.append(each);
    }
    item.append(head, events);
    return item;
  }));
}

function paintRefused() {
  const refused = happened().filter((event) => event.kind === "refused").sort((one, other) => one.ago - other.ago);
  put($("refused").querySelector("summary"), `Refused votes: ${refused.length || "none"}`);
  if (!$("refused").open) return;
  $("refused").querySelector("tbody").replaceChildren(...refused.slice(0, 50).map((event) => {
    const row = make("tr");
    const when = make("td");
    when.append(timeOf(event.ago + since(past.at)));
    row.append(when, make("th", event.node_id, {scope: "row"}), make("td", event.cause || "not told"), make("td", event.text));
    return row;
  }));
}
