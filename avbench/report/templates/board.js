"use strict";
// Tables: sort by a column's button, filter rows by task, track, status and name, show one section of columns.
(() => {
  const tables = [...document.querySelectorAll("table.board")];

  function valueOf(row, index, kind) {
    const text = row.cells[index].dataset.sort;
    if (kind === "text") return text ?? "";
    return text === undefined ? null : Number(text);
  }

  function compare(a, b, kind) {
    return kind === "text" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  }

  function sort(table, header) {
    const index = header.cellIndex;
    const kind = header.dataset.kind;
    const first = kind === "number" && header.dataset.up === "true" ? "descending" : "ascending"; // the best on top
    const now = header.getAttribute("aria-sort");
    const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, index, kind), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what has no value stays below
      return sign * compare(a, b, kind);
    });
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  for (const table of tables) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
    }
  }

  const filters = document.getElementById("filters");
  if (!filters) return;
  filters.hidden = false;
  const [task, track, status, columns, name] = ["task", "track", "status", "columns", "name"].map((id) => document.getElementById(id));
  const shown = document.getElementById("shown");

  function apply() {
    let count = 0;
    for (const group of document.querySelectorAll("section.group")) {
      const rows = [...group.querySelectorAll("tbody tr")];
      const ofTask = (row) => !task?.value || row.dataset.task === task.value; // no choice where there is one task
      group.hidden = (status.value !== "" && group.dataset.status !== status.value) || !rows.some(ofTask);
      for (const row of rows) {
        const label = row.cells[0].dataset.sort.toLowerCase();
        const ofTrack = track.value === "" || row.dataset.track === track.value;
        row.hidden = !ofTask(row) || !ofTrack || !label.includes(name.value.trim().toLowerCase());
        count += !group.hidden && !row.hidden;
      }
      const cells = [...group.querySelectorAll("[data-section]")];
      const has = cells.some((cell) => cell.dataset.section === columns.value);
      for (const cell of cells) cell.hidden = has && cell.dataset.section !== columns.value;
    }
    shown.textContent = `${count} rows`;
  }

  for (const control of [task, track, status, columns]) control?.addEventListener("change", apply);
  name.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  if (window.matchMedia("(max-width: 40rem)").matches && columns.options.length > 1) columns.selectedIndex = 1;
  apply();

  function openNote() {
    const note = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    if (note?.closest("details")) {
      note.closest("details").open = true;
      note.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", openNote);
  openNote();
})();
