"use strict";
// The parts of a report that readers turn to themselves: experts by arm, and questions one by one.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PAGE = 30;
let shown = PAGE;

// Texts enter as text nodes only: a question may hold any markup.
function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
// Answers come as lists, see report/questions.py.
const share = (list) => list.map((p) => p / data.scale);
data.answers = data.answers.map(([q, arm, seed, choice, before, after, layers, cost, seconds, detail]) => {
  const [was, probabilities] = data.before[before], gold = data.questions[q].gold;
  return { q, arm, seed, choice, was, right: choice === gold, wasRight: was === gold, before: share(probabilities), after: share(after),
    layers: data.layers[layers], cost, seconds, ...(detail === null ? {} : data.details[detail]) };
});
const percent = (p) => (100 * p).toFixed(1) + " %";
const signed = (x, digits) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
const letter = (i) => i < 0 ? "none" : String.fromCharCode(65 + i);
const kind = (a) => (a.right === a.wasRight ? (a.right ? "right" : "wrong") : a.right ? "up" : "down");
const MARKS = { up: ["↑", "became right"], down: ["↓", "became wrong"], right: ["✓", "right before and after"], wrong: ["·", "wrong before and after"] };

function option(question, answer, i) {
  const name = node("span", { class: "name" }, letter(i) + (question.choices ? ". " + question.choices[i] : ""));
  if (i === question.gold) name.append(node("span", { class: "badge gold" }, "gold"));
  if (i === answer.was) name.append(node("span", { class: "badge" }, "before"));
  if (i === answer.choice) name.append(node("span", { class: "badge" }, "after"));
  const bar = (p, when) => node("div", { class: "bar " + when }, node("i", { style: `width:${100 * p}%` }), percent(p));
  const bars = node("div", {}, bar(answer.before[i], "before"), bar(answer.after[i], "after"));
  return node("div", { class: "option" + (i === question.gold ? " gold" : "") }, name, bars);
}

function options(question, answer) {
  const key = node("div", { class: "key" }, "Probability", node("i"), "before", node("i", { class: "after" }), "after");
  return node("div", {}, key, ...answer.after.map((_, i) => option(question, answer, i)));
}

function neighbours(question, answer) {
  const head = ["Neighbour", "similarity", "weight"].map((t) => node("span", { class: "head" }, t));
  const cells = answer.neighbours.flatMap(([id, similarity, weight]) => {
    const [text, gold] = (data.references[question.set] || {})[id] || [id, ""];
    const name = node("span", { title: id }, text, gold ? node("span", { class: "soft" }, " → " + gold) : "");
    return [name, node("span", {}, (similarity / data.scale).toFixed(3)), node("span", {}, (weight / data.scale).toFixed(3))];
  });
  return node("div", { class: "near" }, ...head, ...cells);
}

const unflatten = (flat) => new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1] / data.scale]));

function layer(name, place, flat) {
  const before = unflatten(data.own[place]), after = unflatten(flat);
  const rows = [...new Set([...before.keys(), ...after.keys()])]
    .map((e) => [e, before.get(e) || 0, after.get(e) || 0])
    .sort((x, y) => y[1] - x[1] || y[2] - x[2]);
  const most = Math.max(...rows.flatMap(([, x, y]) => [x, y])) || 1;
  const cell = (w) => node("i", { style: `background:color-mix(in srgb, var(--method) ${Math.round((100 * w) / most)}%, transparent)` });
  const strip = rows.map(([e, x, y]) => {
    // Bold: changed by a tenth of the layer's largest weight or more.
    const changed = Math.abs(y - x) >= most / 10 ? { class: "changed" } : {};
    return node("span", { ...changed, title: `expert ${e}: ${x.toFixed(4)} before, ${y.toFixed(4)} after` }, String(e), cell(x), cell(y));
  });
  const label = node("span", { class: "rows" }, "expert", node("i", {}, "before"), node("i", {}, "after"));
  const moved = [...rows].sort((x, y) => y[2] - y[1] - x[2] + x[1]);
  const tell = ([e, x, y]) => `${e} (${signed(y - x, 3)})`;
  const text = `Layer ${name}: most gained by expert ${tell(moved[0])}, most lost by ${tell(moved[moved.length - 1])}`;
  return node("div", { class: "layer" }, node("p", {}, text), node("div", { class: "strip" }, label, ...strip));
}

function pathway(answer) {
  if (!answer.layers.length) return node("p", { class: "soft" }, "No layer was re-mixed: the model was left alone.");
  const names = answer.layers.map((l) => l + (l in answer.layerScores ? ` (score ${answer.layerScores[l].toPrecision(3)})` : ""));
  const bare = Object.entries(answer.experts).map(([l, ids]) => node("p", { class: "soft" }, `Layer ${l}: experts ${ids.join(", ")}`));
  const strips = Object.entries(answer.pathway).map(([l, [place, flat]]) => layer(l, place, flat));
  const key = node("p", { class: "soft" }, "The darker, the more weight, in each layer by itself; bold: changed by a tenth of the layer's largest weight or more.");
  return node("div", {}, node("div", {}, "Layers " + names.join(", ")), ...(strips.length ? [key] : []), ...bare, ...strips);
}

// The same question under the other arms: a click shows it there.
function chips(answer, redraw) {
  const others = data.answers.filter((other) => other.q === answer.q && other.seed === answer.seed);
  return node("div", { class: "chips" }, ...others.map((other) => {
    const [mark, title] = MARKS[kind(other)];
    const chip = node("button", { "aria-pressed": other === answer, title }, `${mark} ${data.arms[other.arm]}: ${letter(other.choice)}`);
    chip.onclick = () => redraw(other);
    return chip;
  }));
}

function detail(body, answer) {
  const question = data.questions[answer.q];
  const part = (title, content) => [node("h3", { class: "part" }, title), content];
  const how = !answer.pathway
    ? [node("p", { class: "soft" }, `Layers re-mixed: ${answer.layers.join(", ") || "none"}. To keep the page small, it holds neighbours and pathways of other questions only, those first on which an arm changed the answer; records.jsonl has them all.`)]
    : [...(answer.neighbours.length ? part("Neighbours", neighbours(question, answer)) : []),
       ...part("Pathway: weights of the experts, before and after", pathway(answer))];
  body.replaceChildren(
    ...part("Arms", chips(answer, (other) => detail(body, other))),
    ...part("Options under " + data.arms[answer.arm], options(question, answer)),
    ...("wrote" in answer ? part("What the model wrote", node("p", {}, answer.wrote || "nothing")) : []),
    ...how,
    node("small", {}, `${question.id} · ${question.set} · seed ${answer.seed} · ${answer.cost.toFixed(2)} base forwards · ${answer.seconds.toFixed(2)} s`),
  );
}

// What an address names a question by: its id, and where another data set has that, too, its data set.
const anchors = new Map();
data.questions.forEach((q, i) => {
  const plain = "q-" + q.id.replace(/\s+/g, "_"), name = anchors.has(plain) ? `q-${q.set}-${q.id}`.replace(/\s+/g, "_") : plain;
  anchors.set(name, i);
  q.anchor = name;
});

function item(answer) {
  const question = data.questions[answer.q], [mark, title] = MARKS[kind(answer)];
  const head = node("summary", {}, node("span", { class: "mark " + kind(answer), title }, mark),
    node("span", { class: "title" }, question.text || question.id), node("span", { class: "tag" }, question.subject));
  const body = node("div", { class: "body" });
  const made = node("details", { class: "question card" }, head, body);
  // Drawn when opened: a thousand pathways at once would stall the page.
  made.ontoggle = () => made.open && !body.childNodes.length && detail(body, answer);
  const link = node("a", { class: "permalink", href: "#" + encodeURIComponent(question.anchor), "aria-label": `Link to ${question.id}`, title: "Link to this question" }, "#");
  // Of several seeds the first carries the name.
  return node("div", { class: "item", ...(data.answers.find((a) => a.q === answer.q && a.arm === answer.arm) === answer ? { id: question.anchor } : {}) }, made, link);
}

// The question that the address names, opened; filters that hide it are taken back.
function visit() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* then as it stands */ }
  const q = anchors.get(name);
  if (q === undefined) return;
  const place = () => data.answers.filter(matches).findIndex((answer) => answer.q === q);
  if (place() < 0) { for (const id of ["set", "subject", "flip", "search"]) byId(id).value = ""; }
  shown = Math.max(shown, place() + 1);
  draw();
  const found = byId(name);
  if (!found) return;
  found.querySelector("details").open = true;
  found.scrollIntoView();
}

function matches(answer) {
  const q = data.questions[answer.q], words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [q.id, q.subject, q.text || "", ...(q.choices || [])].join(" ").toLowerCase();
  return data.arms[answer.arm] === byId("arm").value && (!byId("set").value || q.set === byId("set").value)
    && (!byId("subject").value || q.subject === byId("subject").value)
    && (!byId("flip").value || kind(answer) === byId("flip").value) && words.every((word) => text.includes(word));
}

function draw() {
  const found = data.answers.filter(matches);
  byId("count").textContent = `${found.length} question${found.length === 1 ? "" : "s"}`;
  byId("list").replaceChildren(...found.slice(0, shown).map(item));
  byId("more").hidden = found.length <= shown;
}

function fill(select, values, all) {
  if (all) select.append(node("option", { value: "" }, "all"));
  select.append(...values.map((value) => node("option", { value }, value)));
}
fill(byId("arm"), data.arms, false);
fill(byId("set"), data.datasets, true);
fill(byId("subject"), [...new Set(data.questions.map((q) => q.subject))].sort(), true);
byId("sets").hidden = data.datasets.length < 2;
byId("arm").value = data.shown || data.arms[0];
for (const id of ["arm", "set", "subject", "flip", "search"]) byId(id).oninput = () => { shown = PAGE; draw(); };
byId("more").onclick = () => { shown += PAGE; draw(); };
draw();
visit();
window.onhashchange = visit;

// Layers × experts.
const svg = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

function heat(title, color, use, counts, most) {
  const wide = counts[0].length, tall = use.layers.length, ticks = [];
  const drawn = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}, by layer and expert; the CSV file holds the numbers` });
  counts.forEach((row, y) => row.forEach((count, x) => count && drawn.append(svg("rect",
    { x, y, width: 1, height: 1, fill: `var(--${color})`, "fill-opacity": (count / most).toFixed(3) },
    svg("title", {}, `layer ${use.layers[y]}, expert ${x}: ${percent(count / use.n)} of ${use.n}`)))));
  for (let x = 0; x < wide; x += wide > 32 ? 16 : 8) ticks.push(node("span", { style: `left:${(100 * (x + 0.5)) / wide}%` }, String(x)));
  return node("div", { class: "heat" }, node("h3", {}, title), node("div", { class: "rows" }, ...use.layers.map((l) => node("span", {}, String(l)))),
    drawn, node("div", { class: "ticks" }, ...ticks));
}

function drawUse() {
  const use = data.uses[byId("use").value], most = Math.max(1, ...use.changed.flat());
  byId("heats").replaceChildren(heat("Re-mixed: the weight changed", "method", use, use.changed, most),
    ...(use.raised ? [heat("Raised", "up", use, use.raised, most), heat("Lowered", "down", use, use.lowered, most)] : []));
  byId("usesaid").replaceChildren(`In how many of ${use.n} answers the routing weight of each expert (across) in each decoder layer (down) changed, rose and fell; `, node("span", { class: "whole" }, "none ", node("span", { class: "ramp" }), `${percent(most / use.n)} at most`), ", in all pictures alike."
    + (use.raised ? "" : " Which rose and which fell is not drawn: the records were made by a version that did not keep it."));
  byId("usecsv").onclick = () => save("experts-" + byId("use").value, [["layer", "expert", "answers", "changed", "raised", "lowered"],
    ...use.changed.flatMap((row, y) => row.map((count, x) => [use.layers[y], x, use.n, count, use.raised ? use.raised[y][x] : "", use.raised ? use.lowered[y][x] : ""].map(String)))]);
}
if (Object.keys(data.uses).length) {
  fill(byId("use"), Object.keys(data.uses), false);
  if (data.shown in data.uses) byId("use").value = data.shown;
  byId("use").oninput = drawUse;
  drawUse();
}
