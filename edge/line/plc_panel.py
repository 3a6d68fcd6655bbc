"""The simulated machine's panel: one page, no dependencies. It stands for lamps and buttons on a cabinet."""

PANEL_HTML = b"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Line panel (simulated)</title>
<style>
 body{margin:0;font:16px/1.35 system-ui,sans-serif;background:#3a3d40;color:#eee;padding:12px}
 .row{display:flex;gap:12px;align-items:center;flex-wrap:wrap}
 #lamp{width:44px;height:44px;border-radius:50%;border:3px solid #222;background:#555;flex:none}
 #lamp.RUNNING{background:#e8e8e8} #lamp.TRIPPED{background:#d33;animation:b 1s steps(2) infinite}
 #lamp.READY{background:#e0a800} @keyframes b{50%{background:#611}}
 #state{font-size:22px;font-weight:700} #why{color:#ccc;min-height:1.4em;overflow-wrap:anywhere}
 button{font:700 18px system-ui;min-width:110px;min-height:60px;border:3px solid #1b1b1b;border-radius:8px;color:#111}
 #start{background:#d9d9d9} #reset{background:#9fb7d4} button:active{filter:brightness(.8)}
 #answer{min-height:1.4em;color:#ffd479}
</style>
<div class="row"><div id="lamp"></div><div><div id="state">...</div><div id="why"></div></div></div>
<p class="row"><button id="reset">RESET</button><button id="start">START</button></p>
<div id="answer" role="status"></div>
<script>
const $=i=>document.getElementById(i);let last='';
const words={RUNNING:'RUNNING',READY:'READY: press START',TRIPPED:'STOPPED (latched)'};
function show(s){$('lamp').className=s.state;$('state').textContent=words[s.state];
 $('why').textContent=s.state==='RUNNING'?'':s.why;}
async function poll(){try{show(await (await fetch('state')).json());}
 catch{$('state').textContent='no answer';$('lamp').className='';}setTimeout(poll,300);}
async function press(what,no){try{const s=await (await fetch(what,{method:'POST'})).json();show(s);
 $('answer').textContent=s.done?'':no;}catch{$('answer').textContent='no answer';}}
$('start').onclick=()=>press('start','No permit to run: the start was not honoured.');
$('reset').onclick=()=>press('reset','No halt is open.');poll();
</script></html>"""
