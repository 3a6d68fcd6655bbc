// Runs the flow's function node as Node-RED does: its text as a function body, with msg, context, node and a clock.
// stdin: {"func": "...", "stories": [{"limits", "hb", "steps": [{"at_ms", ...}]}]}; stdout: the outcome of each step.
const { func, stories } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const nodeRed = new Function("msg", "context", "node", "Date", func);
const outcomes = stories.map(({ limits, hb, steps }) => {
    const kept = { limits, s: { run: false, why: "not started", newest: null, validMs: null, nowMs: 0, hb, told: "" } };
    const context = { get: (key) => kept[key], set: (key, value) => { kept[key] = value; } };
    return steps.map((step) => {
        const clock = { now: () => 1700000000000 + step.at_ms };
        const msg = { haltline: step.do === "unreadable" ? "permit" : step.do, payload: step.payload,
                      retain: Boolean(step.retained) };
        const out = nodeRed(msg, context, { status: () => {} }, clock);
        const s = kept.s;
        return { line: s.run ? "RUNNING" : "TRIPPED", why: s.why, valid: s.validMs !== null, hb: s.hb, out };
    });
});
process.stdout.write(JSON.stringify(outcomes));
