// What is so, the members, the details, and the stream that tells of them.

const STALLED = 5000;  // milliseconds without an event, of which there should be several a second
const HIDDEN_FOR = 300000;  // milliseconds; a page that nobody sees need not hold a stream
const LEVELS = {ok: ["✓", "All is well", "#0a6b4b"], warning: ["△", "Look at this", "#d98a1a"], alarm: ["✗", "Alarm", "#d01c2c"]};
const SIGNS = {primary: "★", replica: "○", candidate: "△"};

let cluster = null;
let past = null;
let links = [];
let said = null;  // the headline, and when it was told
let source = null;
let heardAt = 0;
let retry = null;
const nodes = new Map();  // id: what was told of it last, and when

// What is so

function say(level, lead, {remarks = [], lease_ends_in = null, since_ago = null, known = true} = {}) {
  const [sign, word, colour] = LEVELS[level];
  said = {lease_ends_in, since_ago, at: performance.now(), known};
  $("say").className = `card ${level}`;
  $("headline").className = level;
  put($("headline").querySelector(".sign"), sign);
  put($("headline").querySelector(".word"), level === "ok" && remarks.length ? `${word}, as far as is known here` : word);
  const text = $("headline").querySelector(".text");
  if (text.textContent !== lead) {
    put(text, lead);
    put($("headline").querySelector(".end"), lease_ends_in === null ? "" : ` ${brief(Math.max(0, lease_ends_in))}.`);
  }
  const whose = cluster !== null && cluster.name ? `${cluster.name}: ` : "";
  document.title = `${sign} ${whose}${lead}${lease_ends_in === null ? "" : " a moment."}`;
  document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="${SVG}" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="${colour}"/></svg>`)}`;
  paintRemarks(level, remarks);
  paintSaid();
}

function paintRemarks(level, remarks) {
  const content = JSON.stringify([level, remarks]);
  if ($("remarks").dataset.content === content) return;
  $("remarks").dataset.content = content;
  $("remarks").replaceChildren(...remarks.map(({text, advice}) => {
    const item = make("li");
    item.append(make("strong", text || "What to do:"), ` ${advice}`);
    return item;
  }));
}

function paintSaid() {
  if (said === null) return;
  const late = since(said.at);
  put($("countdown"), said.lease_ends_in === null ? "" : ` ${brief(Math.max(0, said.lease_ends_in - late))}.`);
  const calm = said.known && !$("remarks").children.length ? " Nothing needs to be done." : "";
  if (said.since_ago === null) put($("since"), calm.trim());
  else put($("since"), `Since ${clock(dateOf(said.since_ago + late))}, for ${span(said.since_ago + late)}.${calm}`);
}

// The members

const LABELS = {id: "Member", role: "Role", data: "Data", job: "Job", up: "Up for"};

function paintMembers() {
  const views = cluster.members.map((member) => nodes.get(member.node_id)).filter(Boolean);
  const columns = ["id", "role", "data", "job", "up"].filter((name) => name === "id" || name === "role" || views.some((node) => (name === "up" ? node.up_for !== null : node[name])));
  const content = JSON.stringify([columns, views.map((node) => [node.node_id, node.role, node.is_well, node.word, node.data, node.data_is_well, node.job, node.url])]);
  const table = $("members");
  if (table.dataset.content !== content) {
    table.dataset.content = content;
    table.tHead.rows[0].replaceChildren(...columns.map((name) => make("th", LABELS[name], {scope: "col", role: "columnheader"})));
    table.tBodies[0].replaceChildren(...views.map((node) => memberRow(node, columns)));
  }
  views.forEach((node, at) => {
    const up = table.tBodies[0].rows[at].querySelector(".up");
    if (up) put(up, node.up_for === null ? "" : span(node.up_for + since(node.at)));
  });
}

const signOf = (node) => (node.is_well ? SIGNS[node.role] || "?" : node.role === "" ? "?" : "✗");

function memberRow(node, columns) {
  const row = make("tr", undefined, {role: "row"});
  for (const name of columns) {
    const cell = name === "id" ? make("th", undefined, {scope: "row", role: "rowheader"}) : make("td", undefined, {class: name, role: "cell", "data-name": LABELS[name]});
    if (name === "id") cell.append(nameOf(node.node_id, node.url));
    else if (name === "role") {
      cell.append(make("span", `${signOf(node)} `, {"aria-hidden": "true"}), node.word);
      if (!node.is_well && node.role !== "") cell.classList.add("bad");
    } else if (name !== "up") {
      put(cell, node[name]);
      if (name === "data" && !node.data_is_well) cell.classList.add("wary");
    }
    row.append(cell);
  }
  return row;
}

function nameOf(id, url) {
  const found = make("span");
  found.append(url && id !== cluster.me ? make("a", id, {href: `${url}/`, rel: "noreferrer"}) : id);
  if (id === cluster.me) found.append(" ", make("span", "this node", {class: "tag"}));
  return found;
}

function paintCards() {
  if (!$("each").open) return;
  cluster.members.forEach(({node_id: id, address}, at) => {
    const node = nodes.get(id);
    if (!node) return;
    const card = $("cards").children[at] || $("cards").appendChild(make("article", undefined, {"aria-labelledby": `member-${at}`}));
    const content = JSON.stringify([id, node.word, node.is_well, node.rows.map((row) => [row.label, row.text])]);
    if (card.dataset.content !== content) {
      card.dataset.content = content;
      const title = make("h3", undefined, {id: `member-${at}`});
      title.append(make("span", `${signOf(node)} `, {"aria-hidden": "true"}), nameOf(id, node.url), `, ${node.word}`);
      const list = make("dl");
      for (const row of node.rows) list.append(make("dt", row.label), make("dd"));
      if (node.lease !== null) list.prepend(make("dt", "Lease"), make("dd"));
      list.append(make("dt", "Address"), make("dd", `${address}, for members`));
      card.replaceChildren(title, list);
    }
    const values = [...card.querySelectorAll("dd")];
    if (node.lease !== null) put(values.shift(), leaseInWords(id, node));
    node.rows.forEach((row, index) => put(values[index], valueOf(row, since(node.at))));
  });
}

function leaseInWords(id, node) {
  const left = leaseOf(id);
  if (left === Infinity) return "has no end: it is the only member";
  return left > 0 ? `${brief(left)} left of ${+node.lease.lasts.toFixed(2)} s` : "none: it may not write";
}

function valueOf({text, ago, left}, late) {
  if (ago !== null) return `${text} ${span(ago + late)} ago`.trim();
  if (left !== null) return `${text} ${span(Math.max(0, left - late))}`;
  return text;
}

// The links

const STATES = {heard: "✓ heard", silent: "✗ silent", down: "✗ no connection", unknown: "? not known here"};

function paintLinks() {
  const count = links.filter((link) => link.state === "silent" || link.state === "down").length;
  put($("links").querySelector("summary"), count ? `Links: ${count} of ${links.length} broken` : `Links: ${links.length || "none"}`);
  if (!$("links").open) return;
  const body = $("links").querySelector("tbody");
  while (body.rows.length > links.length) body.lastChild.remove();
  links.forEach((link, at) => {
    const row = body.rows[at] || body.appendChild(linkRow());
    put(row.cells[0], `${link.from} to ${link.to}`);
    const late = since(link.at);
    const silence = link.heard_ago === null ? "" : `, last heard ${span(link.heard_ago + late)} ago`;
    const values = [
      STATES[link.state] + silence,
      link.dialled_ago === null ? "–" : span(link.dialled_ago + late),
      link.accepted_ago === null ? "–" : span(link.accepted_ago + late),
      link.confirms === null ? "–" : link.confirms ? "yes" : "no",
      link.security === "" ? "–" : link.security === "plain" ? "nothing" : `${link.security} ${link.key}`.trim(),
    ];
    values.forEach((text, index) => put(row.cells[index + 1], text));
    row.cells[1].className = link.state === "silent" || link.state === "down" ? "bad" : "";
  });
}

function linkRow() {
  const row = make("tr");
  row.append(make("th", "", {scope: "row"}), ...Array.from({length: 5}, () => make("td")));
  return row;
}

// Above all

function paintAbout() {
  const count = cluster.members.length;
  const ids = cluster.members.map((member) => member.node_id);
  const spare = count - cluster.quorum;
  const versions = [...new Set([...nodes.values()].map((node) => node.version).filter(Boolean))];
  const whom = count > 7 || ids.join().length > 40 ? `${ids[0]} and ${count - 1} others` : listed(ids);
  put($("title"), cluster.name ? `${cluster.name}: election of ${whom}` : `Election of ${whom}`);
  put($("about"), `${count} member${count === 1 ? "" : "s"}, ${spare || "none"} may fail · kevy-elect ${listed(versions)} · seen from ${cluster.me} at ${location.host}`);
  const known = cluster.members.some(({node_id: id}) => id !== cluster.me && (nodes.get(id) || {}).url);
  const content = known ? ids.map((id) => (nodes.get(id) || {}).url || "").join() : "";
  if ($("pages").dataset.content === content) return;
  $("pages").dataset.content = content;
  $("pages").hidden = !known;
  $("pages").replaceChildren("Pages:", ...ids.flatMap((id) => {
    const {url} = nodes.get(id) || {};
    if (id === cluster.me) return [make("span", id, {"aria-current": "page"})];
    return url ? [make("a", id, {href: `${url}/`, rel: "noreferrer"})] : [];
  }));
}

function paint() {
  paintSaid();
  if (cluster === null || !nodes.has(cluster.me)) return;
  paintRing();
  paintMembers();
  paintCards();
}

function paintSlowly() {
  if (cluster === null || !nodes.has(cluster.me)) return;
  paintAbout();
  paintLinks();
  if (past === null) return;
  paintLanes();
  paintEpochs();
  paintRefused();
}

const TAKE = {
  cluster(told) {
    if (cluster !== null && JSON.stringify(cluster) !== JSON.stringify(told)) location.reload();
    cluster = told;
    $("main").classList.toggle("many", told.members.length > 7);
  },
  headline(told) {
    say(told.level, told.lead, told);
  },
  links(told) {
    links = told.links.map((link) => ({...link, at: performance.now()}));
  },
  history(told) {
    past = {...told, at: performance.now()};
    paintSlowly();
  },
  node(told) {
    const first = !nodes.has(told.node_id);
    nodes.set(told.node_id, {...told, at: performance.now()});
    if (first && nodes.size === cluster.members.length) {
      paint();
      paintSlowly();
    }
  },
};

// The stream

function connected(text, name) {
  put($("connection"), text);
  $("connection").className = name;
  $("main").classList.toggle("stale", name !== "live");
}

function connect() {
  clearTimeout(retry);
  retry = null;
  heardAt = performance.now();
  source = new EventSource("watch");
  for (const [name, take] of Object.entries(TAKE)) {
    source.addEventListener(name, (event) => {
      heardAt = performance.now();
      take(JSON.parse(event.data));
      connected("Live", "live");
    });
  }
  source.onerror = () => disconnected(source.readyState === EventSource.CLOSED);
}

function disconnected(refused) {
  const whom = cluster === null ? "this node" : cluster.me;
  const at = clock(dateOf(since(heardAt)));
  if (refused) connected(`${whom} serves no stream at the moment, perhaps because too many watch it. Trying again.`, "cut");
  else connected(`No connection to ${whom} since ${at}. Trying again. All below is as it was then.`, "cut");
  if (cluster !== null) say("warning", `What ${whom} knows is not known here since ${at}.`, {known: false});
  if (refused) reconnect(5000);
}

function reconnect(wait) {
  source.close();
  if (retry === null) retry = setTimeout(connect, wait);
}

function watchdog() {
  if (source.readyState !== EventSource.CLOSED && since(heardAt) * 1000 > STALLED) {
    disconnected(false);
    reconnect(1000);
  }
}

let hidden = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.hidden) {
    hidden = setTimeout(() => {
      source.close();
      say("warning", "Paused while nobody looks.", {known: false});
      connected("Paused.", "");
    }, HIDDEN_FOR);
  } else if (source.readyState === EventSource.CLOSED && retry === null) {
    connect();
  }
});

// On paper all that is folded is open.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const each of folded) each.open = true;
  paint();
  paintSlowly();
});
addEventListener("afterprint", () => {
  for (const each of folded) each.open = false;
});
for (const each of document.querySelectorAll("details")) {
  each.addEventListener("toggle", () => {
    paint();
    paintSlowly();
  });
}

makeZoom();
connect();
setInterval(watchdog, 1000);
setInterval(paintSlowly, 1000);
setInterval(paint, matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 100);
