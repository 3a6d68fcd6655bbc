// The controller's side of the line contract as one Node-RED function node; its twin is inspection/watchdog.py.
// A quality stop, not a safety function: no PL, no SIL, never in the emergency-stop or guard chain.
//
// In:  msg.haltline = "permit" (msg.payload: text, msg.retain), "tick", "beat", "start", "reset", "stop".
// Out: 1 plc/hb, 2 plc/state, 3 true/false for the line's run condition, 4 cmd/resume, 5 cmd/stop.
const U32 = 4294967296;
const MAX = { v: 1, boot: U32 - 1, seq: U32 - 1, run: 1, code: 255, halt: U32 - 1, echo: U32 - 1, age_ms: U32 - 1,
              ts_ms: Number.MAX_SAFE_INTEGER };
const limits = context.get("limits") || { watchdog_ms: 1000, max_age_ms: 1000, max_echo_lag: 4 };
// A random first count: a permit from before this start then echoes a count that is far off.
const s = context.get("s") || { run: false, why: "not started", newest: null, validMs: null, nowMs: 0,
                                hb: Math.floor(Math.random() * U32), told: "" };
const nowMs = Date.now();
// Node-RED has no monotonic clock here. When this one steps back, nobody knows how old the last permit is.
if (nowMs < s.nowMs) s.validMs = null;
s.nowMs = nowMs;

function read(text) {
    let p;
    try { p = JSON.parse(text); } catch (e) { return null; }
    if (p === null || typeof p !== "object" || Object.keys(p).length !== Object.keys(MAX).length) return null;
    for (const key of Object.keys(MAX)) {
        if (!Number.isInteger(p[key]) || p[key] < 0 || p[key] > MAX[key]) return null;
    }
    return p.v === 1 ? p : null;
}

function newer(a, b) {
    if (b === null) return true;
    const ahead = a.boot !== b.boot ? a.boot - b.boot : a.seq - b.seq;
    const circle = ((ahead % U32) + U32) % U32;
    return circle > 0 && circle < U32 / 2;
}

function trip(why) {
    if (s.run || s.why === "not started") s.why = why;
    s.run = false;
}

function ready() {
    return s.validMs !== null && nowMs - s.validMs <= limits.watchdog_ms;
}

function tick() {
    if (!ready()) trip(`no valid permit for ${limits.watchdog_ms} ms`);
}

function judge(p, retained) {
    if (retained && p.run === 1) return;  // of unknown age: never enough
    const isNewer = newer(p, s.newest);
    if (isNewer) s.newest = p;
    if (retained) { s.validMs = null; trip(`retained halt, code ${p.code}`); return; }
    if (!isNewer) return;  // duplicate, reordered or replayed
    if (p.run !== 1) { s.validMs = null; trip(`halt ${p.halt}, code ${p.code}`); return; }
    if (p.age_ms > limits.max_age_ms) {
        s.validMs = null;
        trip(`newest judged frame is ${p.age_ms} ms old`);
        return;
    }
    if ((s.hb - p.echo + U32) % U32 <= limits.max_echo_lag) s.validMs = nowMs;
}

function nonce() {
    return Array.from({ length: 4 }, () => Math.floor(Math.random() * U32).toString(36)).join("-");
}

let hb = null, resume = null, stop = null;
switch (msg.haltline) {
    case "permit": {
        if (s.run) tick();  // the gap before this permit counts first
        const permit = read(msg.payload);
        if (permit === null) tick(); else judge(permit, msg.retain === true);
        break;
    }
    case "beat":
        s.hb = (s.hb + 1) % U32;
        hb = { payload: JSON.stringify({ v: 1, n: s.hb }) };
        tick();
        break;
    case "start":
        if (ready()) { s.run = true; s.why = "started"; } else tick();
        break;
    case "reset":
        // Names the newest permit seen, so that a request that waited somewhere does nothing when it arrives.
        if (s.newest !== null && s.newest.halt !== 0) {
            const ask = { v: 1, halt: s.newest.halt, who: "panel", nonce: nonce(), boot: s.newest.boot, seq: s.newest.seq,
                          why: "reset at panel" };
            resume = { payload: JSON.stringify(ask) };
        }
        break;
    case "stop":
        // Trips here and now; the edge is told so that its permit stays withdrawn until a person resumes.
        s.validMs = null;
        trip("stop at panel");
        stop = { payload: JSON.stringify({ v: 1, nonce: nonce(), who: "panel", why: "", ts_ms: nowMs }) };
        break;
    default:
        tick();
}

const state = s.run ? "RUNNING" : ready() ? "READY" : "TRIPPED";
let told = null, line = null;
if (s.told !== state + s.why) {
    s.told = state + s.why;
    told = { payload: JSON.stringify({ v: 1, state, why: s.why, ts_ms: nowMs }) };
    line = { payload: s.run };
    node.status({ fill: s.run ? "green" : "red", shape: "dot", text: `${state}: ${s.why}` });
}
context.set("s", s);
return [hb, told, line, resume, stop];
