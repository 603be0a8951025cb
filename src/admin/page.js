"use strict";
const word = document.querySelector("meta[name=word]").content;
const place = document.getElementById("status");
const made = (name, text) => { const e = document.createElement(name); e.textContent = text; return e; };
function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
function table(rows) {
  const keys = [...new Set(rows.flatMap(Object.keys))];
  const all = made("table", "");
  const head = all.insertRow();
  keys.forEach(key => head.append(made("th", key)));
  for (const row of rows) {
    const line = all.insertRow();
    if (row.usable === false) line.className = "bad";
    keys.forEach(key => { line.insertCell().textContent = shown(row[key]); });
  }
  return all;
}
async function look() {
  try {
    const answer = await fetch("/status.json", { headers: { "X-Atlas-Auth-Proxy-Page": word }, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status + "; reload this page");
    const status = await answer.json(), parts = [], rest = {};
    for (const [key, value] of Object.entries(status)) {
      if (Array.isArray(value)) parts.push(made("h2", key), table(value)); else rest[key] = value;
    }
    place.replaceChildren(table([rest]), ...parts);
  } catch (error) {
    place.replaceChildren(made("p", "No answer: " + error.message));
  }
  setTimeout(look, 5000);
}
look();
