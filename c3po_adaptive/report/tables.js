"use strict";
// Each table with data-csv="name of a file": its headings sort it, and a button saves it. A heading's data-csv names the
// fields that its column has in the file, a cell's data-csv holds them; else they are what is read.
const fields = (cell) => cell.dataset.csv === undefined ? [cell.textContent.trim().replace(/\s+/g, " ")] : cell.dataset.csv.split(",");
// What begins as a formula would be run by spreadsheets: an apostrophe makes it a text.
const plain = (text) => (/^[=+\-@\t]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text);
const quoted = (text) => ((text = plain(text)), /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function save(name, lines) {
  const address = URL.createObjectURL(new Blob([lines.map((line) => line.map(quoted).join(",") + "\n").join("")], { type: "text/csv" }));
  Object.assign(document.createElement("a"), { href: address, download: name + ".csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// Numbers by size, words by letter; what has no value comes last either way.
function sort(table, column, sign) {
  const key = (row) => { const text = fields(row.cells[column])[0]; return [text, text === "" ? NaN : Number(text)]; };
  const body = table.tBodies[0], rows = [...body.rows].map((row) => [...key(row), row]);
  const words = rows.every(([, number]) => Number.isNaN(number));
  rows.sort(([a, x], [b, y]) => words ? sign * a.localeCompare(b) : Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0);
  body.append(...rows.map(([, , row]) => row));
  [...table.tHead.rows[0].cells].forEach((head, i) => i === column ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
}

for (const table of document.querySelectorAll("table[data-csv]")) {
  const heads = [...table.tHead.rows[0].cells], names = heads.map((head) => head.textContent.trim());
  const by = Object.assign(document.createElement("select"), { className: "sortby" });
  by.setAttribute("aria-label", "Sort by");
  by.append(new Option("sort by …", ""));
  heads.forEach((head, column) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: "Sort" });
    button.append(...head.childNodes);
    head.append(button);
    by.append(new Option(names[column], column));
    // First the direction that is asked for most: the most of a number, the first of a word.
    const first = () => Number.isNaN(Number(fields(table.tBodies[0].rows[0].cells[column])[0])) ? 1 : -1;
    button.onclick = () => sort(table, column, { ascending: -1, descending: 1 }[head.getAttribute("aria-sort")] || first());
    by.addEventListener("change", () => by.value === String(column) && sort(table, column, first()));
  });
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Download CSV" });
  button.onclick = () => save(table.dataset.csv, [heads.flatMap(fields), ...[...table.tBodies[0].rows].map((row) => [...row.cells].flatMap(fields))]);
  const tools = Object.assign(document.createElement("div"), { className: "tabletools" });
  tools.append(by, button);
  (table.closest(".wide") || table).before(tools);
}
