"use strict";

const byId = (id) => document.getElementById(id);
const message = byId("message");
// The bytes of an opened file; what is typed afterwards replaces them.
let file = null;
// Of the check under way; another one ends it.
let underway = new AbortController();

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

// What is said of a message goes with it.
function clear() {
  underway.abort();
  byId("status").hidden = true;
  byId("result").hidden = true;
  problem("");
}

function choose(chosen) {
  clear();
  file = chosen;
  byId("name").textContent = chosen ? chosen.name : "";
  if (chosen) message.value = "";
}

// What is typed or pasted is sent as UTF-8, whatever charset a header tells of the bytes that its
// part had; of a part in base64 or quoted-printable they are still there.
function typed() {
  const text = message.value;
  if (!/[^\x00-\x7f]/.test(text)) return text;
  return text.replace(/^(?:[\w-]+:.*\n(?:[ \t].*\n)*)+/gm, (header) => {
    if (/^content-transfer-encoding:\s*(base64|quoted-printable)/im.test(header)) return header;
    return header.replace(/^content-type:.*(\n[ \t].*)*/gim, (field) =>
      field.replace(/(\bcharset\s*=\s*)("[^"]*"|[^\s;]+)/gi, "$1utf-8"),
    );
  });
}

function fact(name, value) {
  const term = document.createElement("dt");
  const detail = document.createElement("dd");
  term.textContent = name;
  detail.textContent = value;
  byId("facts").append(term, detail);
}

// The words that moved the verdict most, for those who see no colours; each in its own direction.
function strongest(spans, sign) {
  const found = spans.filter((span) => sign * span.log_odds > 0.1 && span.text.trim());
  found.sort((one, other) => sign * (other.log_odds - one.log_odds));
  const told = found.slice(0, 5).map((span) => `\u2068${span.text.trim()}\u2069 (${span.log_odds.toFixed(1)})`);
  return told.join(", ") || "nothing";
}

function show(model, result, mayExplain) {
  const spam = result.probabilities.spam;
  byId("decision").textContent = `${result.decision}: ${(100 * spam).toFixed(1)} % spam`;
  const meter = byId("meter");
  meter.value = spam;
  // Green, yellow or red, as its cut-offs have decided.
  meter.low = result.decision === "ham" ? 1 : 1e-12;
  meter.high = result.decision === "spam" ? 1e-12 : 1;
  byId("facts").replaceChildren();
  fact("Score", result.score.toFixed(2));
  fact("Read", `${result.parts.join(", ") || "the subject"}, ${result.charset}`);
  const passages = result.windows === 1 ? "passage" : "passages";
  const length = `${result.characters} characters, ${result.tokens} tokens`;
  fact("Length", `${length} in ${result.windows} ${passages}`);
  fact("Complete", result.truncated ? "no, something was left unread" : "yes");
  fact("Model", model);
  const text = byId("text");
  text.replaceChildren();
  const explanation = result.explanation;
  const why = mayExplain
    ? "not told: the service had no room or no time for it"
    : "told on the service's own machine, or with an access key";
  if (!explanation) fact("Why", why);
  byId("explained").hidden = !explanation;
  const spans = explanation ? explanation.spans : [];
  byId("words").textContent =
    `Most for spam: ${strongest(spans, 1)}. Most for ham: ${strongest(spans, -1)}.`;
  const largest = Math.max(0.5, ...spans.map((span) => Math.abs(span.log_odds)));
  for (const span of spans) {
    const mark = document.createElement("span");
    const strength = (0.6 * Math.abs(span.log_odds)) / largest;
    mark.textContent = span.text;
    mark.title = `${span.log_odds > 0 ? "+" : ""}${span.log_odds.toFixed(2)} log-odds`;
    const color = span.log_odds > 0 ? "220 38 38" : "22 163 74";
    if (Math.abs(span.log_odds) > 0.1) mark.className = span.log_odds > 0 ? "spam" : "ham";
    mark.style.backgroundColor = `rgb(${color} / ${strength.toFixed(2)})`;
    text.append(mark);
  }
  byId("rest").hidden = !explanation || explanation.complete;
  byId("result").hidden = false;
}

async function check(event) {
  event.preventDefault();
  clear();
  underway = new AbortController();
  const { signal } = underway;
  const headers = { "Content-Type": "message/rfc822" };
  const key = byId("key").value;
  // Fetch takes a character for each byte, and the service the bytes for UTF-8.
  if (key) headers["X-API-Key"] = String.fromCharCode(...new TextEncoder().encode(key));
  byId("status").hidden = false;
  let body;
  try {
    body = file ? await file.arrayBuffer() : typed();
  } catch {
    if (signal.aborted) return;
    byId("status").hidden = true;
    problem("The file cannot be read: open it again.");
    return;
  }
  if (signal.aborted) return;
  const request = { method: "POST", headers, body, signal };
  try {
    let reply = await fetch("classify/message?explain=true", request);
    // Others than this machine get verdicts alone, unless the service knows their key.
    const mayExplain = ![401, 403].includes(reply.status);
    if (!mayExplain) reply = await fetch("classify/message", request);
    const answer = await reply.json().catch((error) => {
      if (error instanceof SyntaxError) return null; // of a proxy, say
      throw error;
    });
    if (answer?.results) show(answer.model, answer.results[0], mayExplain);
    else problem(answer?.detail || `The answer, HTTP ${reply.status}, is not the service's own.`);
    if (reply.status === 401) {
      byId("access").open = true;
      byId("key").focus();
    }
  } catch {
    if (!signal.aborted) problem("The service does not answer.");
  }
  if (!signal.aborted) byId("status").hidden = true;
}

byId("form").addEventListener("submit", check);
byId("file").addEventListener("change", (event) => {
  choose(event.target.files[0] || null);
  // Else the same file, opened once more, would be no change.
  event.target.value = "";
});
message.addEventListener("input", () => choose(null));
// Text is dropped where the browser drops it.
const hasFiles = (event) => event.dataTransfer.types.includes("Files");
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
}
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
});
