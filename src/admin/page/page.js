"use strict";
const EVERY = 5000;
const word = document.querySelector("meta[name=word]").content;
const lost = document.getElementById("lost");
const parts = [...document.querySelectorAll("[data-part]")];
const shown = new Map(parts.map(part => [part.id, part.innerHTML]));
let timer = 0, since = "";

function replace(part, fresh) {
  if (!fresh || shown.get(part.id) === fresh.innerHTML) return;
  shown.set(part.id, fresh.innerHTML);
  const focused = part.contains(document.activeElement) && document.activeElement.id;
  const open = [...part.querySelectorAll("details[open]")].map(details => details.id);
  part.replaceChildren(...fresh.childNodes);
  open.forEach(id => document.getElementById(id)?.setAttribute("open", ""));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function say(text) {
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = !text;
  document.body.classList.toggle("stale", Boolean(text));
}

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const answer = await fetch("/status.html", {
      headers: { "X-Atlas-Auth-Proxy-Page": word }, cache: "no-store", signal: AbortSignal.timeout(EVERY),
    });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      parts.forEach(part => replace(part, fresh.getElementById(part.id)));
      document.title = fresh.title;
      since = "";
      say("");
    } else {
      say("Another process answers here now: type this page's address again to see it.");
    }
  } catch {
    since ||= new Date().toLocaleTimeString();
    say(`The proxy can't be reached since ${since}. What stands here is from before.`);
    document.title = "No answer · atlas-auth-proxy";
  }
  clearTimeout(timer);
  timer = setTimeout(look, EVERY);
}

document.addEventListener("visibilitychange", look);
timer = setTimeout(look, EVERY);
