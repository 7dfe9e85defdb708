// The picture: members on a ring, the lease of the primary, and each direction of each link.

const ring = {key: "", leases: [], silences: []};
const LINES = {heard: "heard", silent: "silent", down: "no connection", unknown: "not known here"};

function places(count) {
  const radius = count <= 4 ? 38 : count <= 6 ? 34 : count <= 9 ? 28 : count <= 14 ? 23 : 19;
  const least = [0, 0, 115, 128, 132, 138, 148][count] ?? (count <= 9 ? 168 : 190);
  const distance = count === 1 ? 0 : Math.max(least, count * (2 * radius + 14) / (2 * Math.PI));
  const start = count === 2 ? Math.PI : -Math.PI / 2;
  return Array.from({length: count}, (_, at) => {
    const angle = start + 2 * Math.PI * at / count;
    return {x: distance * Math.cos(angle), y: distance * Math.sin(angle), radius};
  });
}

function paintRing() {
  const ids = cluster.members.map((member) => member.node_id);
  const key = JSON.stringify([ids.map((id) => drawnOf(nodes.get(id))), links.map((link) => [link.from, link.to, link.state])]);
  if (key !== ring.key) {
    ring.key = key;
    drawRing(ids);
  }
  for (const lease of ring.leases) paintArc(lease);
  for (const silence of ring.silences) {
    const ago = Math.max(...silence.links.map((link) => link.heard_ago ?? -1));
    put(silence.text, ago < 0 ? "never heard" : `silent ${silence.longest ? "up to " : ""}${brief(ago + since(silence.links[0].at))}`);
  }
}

const drawnOf = (node) => node && [node.role, node.is_well, node.short, node.lease === null];

function drawRing(ids) {
  const spots = places(ids.length);
  const where = new Map(ids.map((id, at) => [id, spots[at]]));
  const dense = ids.length > 6;
  const broken = links.filter((link) => link.state === "silent" || link.state === "down");
  ring.leases = [];
  ring.silences = [];
  const lines = dense ? denseLines(where) : links.map((link) => arrow(link, where));
  const labels = dense ? [] : labelled(broken, where);
  const discs = ids.map((id) => disc(id, where.get(id), ids.length));
  set($("ring"), {class: dense ? "dense" : "", viewBox: frame(spots, ids), "aria-label": ringInWords(ids)});
  $("ring").replaceChildren(...lines, ...discs, ...labels);
  paintLegend(broken);
}

function frame(spots, ids) {
  const edge = spots[0].radius + 34;
  const xs = spots.map((spot) => spot.x), ys = spots.map((spot) => spot.y);
  let [left, right] = [Math.min(...xs) - edge, Math.max(...xs) + edge];
  const [top, bottom] = [Math.min(...ys) - edge, Math.max(...ys) + edge];
  const names = ids.length > 14 ? [] : spots.map((spot, at) => Math.abs(spot.x) + [...ids[at]].length * 4.3);  // beside the discs
  right = Math.max(right, 190, ...names);
  left = Math.min(left, -right);
  return [left, top, right - left, bottom - top].map((value) => value.toFixed(1)).join(" ");
}

function ends(link, where, aside) {
  const from = where.get(link.from), to = where.get(link.to);
  const far = Math.hypot(to.x - from.x, to.y - from.y);
  const u = {x: (to.x - from.x) / far, y: (to.y - from.y) / far};
  const off = {x: -u.y * aside, y: u.x * aside};
  const begin = from.radius + 15, end = far - to.radius - 15;
  const at = (way) => ({x: from.x + u.x * way + off.x, y: from.y + u.y * way + off.y});
  return {from: at(begin), to: at(end), middle: at((begin + end) / 2), u};
}

function line(one, other) {
  return draw("line", {x1: one.x, y1: one.y, x2: other.x, y2: other.y});
}

function arrow(link, where, aside = 7, size = 10) {
  const {from, to, middle, u} = ends(link, where, aside);
  const group = draw("g", {class: `arrow ${link.state}`});
  if (link.state === "down") {
    const c = 5;
    const cross = `M${middle.x - c} ${middle.y - c}l${2 * c} ${2 * c}m0 ${-2 * c}l${-2 * c} ${2 * c}`;
    group.append(line(from, to), draw("path", {d: cross}));
  } else if (link.state === "unknown") {
    group.append(line(from, to));
  } else {
    const back = {x: to.x - u.x * size, y: to.y - u.y * size};
    const half = size * 0.42;
    const head = `M${to.x} ${to.y}L${back.x - u.y * half} ${back.y + u.x * half}L${back.x + u.y * half} ${back.y - u.x * half}z`;
    group.append(line(from, back), draw("path", {d: head}));
  }
  group.append(draw("title", {}, `${link.from} to ${link.to}: ${LINES[link.state]}`));
  return group;
}

// With many members a pair that hears each other is one thin line, and a member that is away has none.
function denseLines(where) {
  const state = new Map(links.map((link) => [`${link.from} ${link.to}`, link.state]));
  const found = [];
  for (const link of links) {
    const back = state.get(`${link.to} ${link.from}`);
    if (isAway(link.from) || isAway(link.to)) continue;
    if (link.state === "heard" && (back === "heard" || back === "unknown")) {
      if (link.from < link.to || back === "unknown") found.push(draw("g", {class: "arrow pair", "stroke-opacity": Math.min(0.7, 5 / where.size)}, line(where.get(link.from), where.get(link.to))));
    } else if (link.state === "silent" || link.state === "heard") {
      found.push(arrow(link, where, 4, 8));
    } else if (link.state === "down") {
      const {from, to} = ends(link, where, 4);
      found.push(draw("g", {class: "arrow down"}, line(from, to)));
    }
  }
  return found;
}

const isAway = (id) => {
  const node = nodes.get(id);
  return node !== undefined && !node.is_well && node.role !== undefined && links.every((link) => (link.from !== id && link.to !== id) || link.state !== "heard");
};

// One label for both directions where both are broken; a member that is away says so itself.
function labelled(broken, where) {
  const pairs = new Map();
  for (const link of broken) {
    if (isAway(link.from) || isAway(link.to)) continue;
    const pair = [link.from, link.to].sort().join(" ");
    pairs.set(pair, [...(pairs.get(pair) || []), link]);
  }
  if (pairs.size > 3) return [];  // too many to be told apart; the legend tells of all
  return [...pairs.values()].map((pair) => {
    const silent = pair.filter((link) => link.state === "silent");
    const {middle} = ends(pair[0], where, 0);
    const far = Math.hypot(middle.x, middle.y);
    const out = far < 25 ? {x: 0, y: 1} : {x: middle.x / far, y: middle.y / far};
    const text = draw("text", {
      class: `label ${silent.length ? "silent" : "down"}`, x: middle.x + out.x * 15, y: middle.y + out.y * 23 + 4,
      "text-anchor": out.x < -0.35 ? "end" : out.x > 0.35 ? "start" : "middle",
    }, "no connection");
    if (silent.length) ring.silences.push({text, links: silent});
    return text;
  });
}

function disc(id, {x, y, radius}, count) {
  const node = nodes.get(id) || {role: "", is_well: false, short: "", lease: null};
  const kind = node.is_well || node.role === "" ? node.role || "unheard" : "away";
  const group = draw("g", {class: `node ${kind}`});
  if (node.lease !== null && node.lease.ends_in !== null) {
    const wide = {cx: x, cy: y, r: radius + 6.5, "stroke-width": radius > 25 ? 6 : 4};
    const arc = draw("circle", {class: "lease", ...wide, transform: `rotate(-90 ${x.toFixed(2)} ${y.toFixed(2)})`});
    group.append(draw("circle", {class: "track", ...wide}), arc);
    ring.leases.push({id, arc, round: 2 * Math.PI * (radius + 6.5)});
  }
  const witness = node.short === "witness";
  group.append(witness
    ? draw("rect", {class: "disc", x: x - radius * 0.92, y: y - radius * 0.92, width: radius * 1.84, height: radius * 1.84, rx: 8})
    : draw("circle", {class: "disc", cx: x, cy: y, r: radius}));
  const roomy = count <= 9;
  const sign = node.is_well ? {primary: "★ ", candidate: "△ "}[node.role] || "" : node.role === "" ? "" : "✗ ";
  const letters = 2 * (radius - 4) / (0.62 * [...(roomy ? sign + id : id)].length);
  const beside = letters < 10;  // a name too long to be read inside
  const size = beside ? 17 : Math.min(roomy ? 17 : 13, letters);
  const name = beside ? sign.trim() : roomy ? sign + id : id;
  const small = node.lease === null ? node.short : radius > 35 ? "lease over" : "12 min";  // the longest that it will be
  const inside = roomy && small !== "" && small.length * 7.1 <= 2 * radius - 4;
  group.append(draw("text", {class: "id", x, y: y + (inside ? -1 : 5.5), "text-anchor": "middle", "font-size": size}, name));
  if (beside && count <= 14) group.append(draw("text", {class: "label", x, y: outside(y, radius) + (inside ? 0 : Math.sign(y || 1) * 17), "text-anchor": "middle"}, id));
  if (roomy) {
    const text = draw("text", {class: inside ? "small" : "outside", x, y: inside ? y + (name === "" ? 4.5 : 15) : outside(y, radius), "text-anchor": "middle"}, node.short);
    group.append(text);
    if (node.lease !== null) ring.leases.push({id, text, over: radius > 35 ? "lease over" : "over"});
  } else if (sign !== "") {
    const far = 1 + (radius + 19) / Math.hypot(x, y);
    group.append(draw("text", {class: "outside", x: x * far, y: y * far + 5, "text-anchor": "middle"}, sign.trim()));
  }
  group.append(draw("title", {}, `${id}: ${node.word || "not heard yet"}`));
  return group;
}

const outside = (y, radius) => (y < -1 ? y - radius - 15 : y + radius + 25);

function leaseOf(id) {  // null for none, Infinity for one without end
  const node = nodes.get(id);
  if (!node || node.lease === null) return null;
  return node.lease.ends_in === null ? Infinity : Math.max(0, node.lease.ends_in - since(node.at));
}

function paintArc({id, arc, text, round, over}) {
  const left = leaseOf(id);
  const node = nodes.get(id);
  if (left === null) return;
  if (text) {
    const waits = node.is_well && node.short !== "primary";
    put(text, left === Infinity ? "no end" : left > 0 ? brief(left) : waits ? node.short : over);
    return;
  }
  const part = Math.min(1, left / (node.lease.lasts || 1));
  set(arc, {class: part < 0.34 ? "lease short" : "lease", "stroke-dasharray": `${(part * round).toFixed(1)} ${round.toFixed(1)}`});
}

function ringInWords(ids) {
  const groups = new Map();
  for (const id of ids) {
    const word = (nodes.get(id) || {word: "not heard yet"}).word;
    groups.set(word, [...(groups.get(word) || []), id]);
  }
  return `${[...groups].map(([word, who]) => `${listed(who)}: ${word}`).join(". ")}. ${linksInWords()}`;
}

function linksInWords() {
  const of = (state) => links.filter((link) => link.state === state);
  if (!links.length) return "A single member has no links.";
  if (of("heard").length === links.length) return `All ${links.length} links are up.`;
  const said = ["silent", "down"].filter((state) => of(state).length).map((state) => {
    const named = of(state).slice(0, 12).map((link) => `${link.from} to ${link.to}`);
    const more = of(state).length - named.length;
    return `${state === "down" ? "No connection" : "Silent"}: ${named.join(", ")}${more ? ` and ${more} more` : ""}.`;
  });
  const unknown = of("unknown").length;
  if (unknown) said.push(`${unknown} of ${links.length} links are not known here.`);
  return said.join(" ");
}

function paintLegend(broken) {
  const states = new Set(links.map((link) => link.state));
  const items = ["heard", "silent", "down", "unknown"].filter((state) => states.has(state)).map((state) => {
    const sample = draw("svg", {width: 34, height: 14, viewBox: "0 -7 34 14", "aria-hidden": "true"});
    const where = new Map([["a", {x: -14, y: 0, radius: 0}], ["b", {x: 48, y: 0, radius: 0}]]);
    sample.append(arrow({from: "a", to: "b", state}, where, 0, 9));
    sample.querySelector("title").remove();
    const item = make("li");
    const text = make("span", LINES[state]);
    if (state === "silent" && !ring.silences.length) ring.silences.push({text, links: broken.filter((link) => link.state === state), longest: true});
    item.append(sample, text);
    return item;
  });
  if (ring.leases.length) {
    const item = make("li");
    const sample = draw("svg", {width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true"});
    sample.append(draw("circle", {class: "track", r: 5.5, "stroke-width": 3}), draw("circle", {class: "lease", r: 5.5, "stroke-width": 3, "stroke-dasharray": "24 35", transform: "rotate(-90)"}));
    item.append(sample, "what is left of the lease");
    items.push(item);
  }
  $("legend").replaceChildren(...items);
}
