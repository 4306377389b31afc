"use strict";
const thumbs = [...document.querySelectorAll(".thumb")];
const zoom = document.getElementById("zoom");
let shown = 0;

function show(index) {
  shown = (index + thumbs.length) % thumbs.length;
  const from = thumbs[shown].querySelector("img");
  const image = zoom.querySelector("img");
  image.src = from.src;
  image.alt = from.alt;
  zoom.querySelector("figcaption").textContent = thumbs[shown].dataset.says;
  if (!zoom.open) zoom.showModal();
}

thumbs.forEach((thumb, index) => thumb.addEventListener("click", () => show(index)));
zoom.addEventListener("click", (event) => {
  const step = event.target.dataset.step;
  if (step) show(shown + Number(step));
  else if (event.target === zoom || "close" in event.target.dataset) zoom.close();
});
zoom.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(shown + 1);
  if (event.key === "ArrowLeft") show(shown - 1);
});
zoom.addEventListener("close", () => thumbs[shown].focus());

function key(row, column, numeric) {
  const text = row.cells[column].dataset.sort;
  return numeric && text !== "" ? Number(text) : text;
}

function sort(table, column, down) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const values = rows.map((row) => row.cells[column].dataset.sort);
  const numeric = values.every((value) => value === "" || Number.isFinite(Number(value)));
  const sign = down ? -1 : 1;
  rows.sort((first, second) => {
    const [a, b] = [key(first, column, numeric), key(second, column, numeric)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  });
  body.append(...rows);
}

document.querySelectorAll("table.scores").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : head.classList.contains("number");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table, column, down);
    });
  });
});

document.querySelectorAll(".copy").forEach((button) => {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
});

addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
});
