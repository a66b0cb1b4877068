"""The look of the report: system fonts, one accent, light and dark, phone and print."""

CSS = """
:root{--ink:#1b1e23;--soft:#5b6470;--line:#dfe3e8;--paper:#fff;--card:#f6f7f9;--accent:#0b5cad;--k1:#b04a00;--k2:#3b7a2a;--k3:#7a3b8f}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a3abb6;--line:#343a43;--paper:#14171b;--card:#1d2127;--accent:#74b3f5;
--k1:#f0a060;--k2:#8fce7c;--k3:#cf9be2}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.3;font-weight:650;margin:.3rem 0 1.2rem;text-wrap:balance}
h2{font-size:1.15rem;margin:2.6rem 0 .3rem;padding-top:.9rem;border-top:1px solid var(--line)}
h1,main li,main p{overflow-wrap:anywhere}p{margin:.3rem 0 .8rem;max-width:46rem}.how,.small{color:var(--soft);font-size:.9rem}.brand{color:var(--soft);letter-spacing:.02em}
.strip{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1.2rem 0;padding:0}
.strip div{background:var(--card);border-radius:.6rem;padding:.7rem .9rem}.strip dt{color:var(--soft);font-size:.82rem}
.strip dd{margin:0;font-size:1.25rem;font-weight:620;font-variant-numeric:tabular-nums}.strip dd small{display:block;font-size:.8rem;
font-weight:400;color:var(--soft)}
.notes{background:var(--card);border-left:4px solid var(--accent);border-radius:.3rem;padding:.6rem 1rem .6rem 2rem;margin:1rem 0}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}table{border-collapse:collapse;width:100%;font-size:.9rem;
font-variant-numeric:tabular-nums}caption{text-align:left;color:var(--soft);font-size:.85rem;padding:.2rem 0}
th,td{text-align:left;padding:.36rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}th{font-weight:600;color:var(--soft);
font-size:.82rem;white-space:nowrap}td.n,th.n{text-align:right;white-space:nowrap}tr.chosen td:first-child{font-weight:650}
@media(min-width:48rem){.whole{white-space:nowrap}}td.text{min-width:14rem;overflow-wrap:anywhere}tr.out{color:var(--soft)}
svg{width:100%;height:auto;max-width:42rem;display:block;font:11px system-ui,sans-serif;fill:var(--soft)}
svg.narrow{display:none;max-width:30rem}svg.mini{width:160px;min-width:120px;height:18px}.grid{stroke:var(--line);stroke-width:1}.label{font-size:12px}.name{fill:var(--ink);
paint-order:stroke;stroke:var(--paper);stroke-width:3px}.bar{stroke:var(--soft);stroke-width:2}.dot{fill:var(--paper);stroke:var(--ink);
stroke-width:2}.chosen{fill:var(--accent)}polyline{fill:none;stroke-width:2.2}polyline.k0{stroke:var(--accent)}polyline.k1{stroke:var(--k1)}
polyline.k2{stroke:var(--k2)}polyline.k3{stroke:var(--k3)}circle.k0{fill:var(--accent)}circle.k1{fill:var(--k1)}circle.k2{fill:var(--k2)}
circle.k3{fill:var(--k3)}.band{opacity:.16}.band.k0{fill:var(--accent)}.band.k1{fill:var(--k1)}.band.k2{fill:var(--k2)}.band.k3{fill:var(--k3)}
.heat td,.heat th{text-align:center;padding:.25rem .35rem;font-size:.8rem;border:1px solid var(--line)}.heat th[scope]{text-align:right;position:sticky;left:0;background:var(--paper)}
nav{font-size:.88rem;margin:.8rem 0;display:flex;flex-wrap:wrap;gap:.1rem .9rem}nav a{color:var(--accent);text-decoration:none;white-space:nowrap}
nav a:focus-visible,summary:focus-visible{outline:2px solid var(--accent)}details{margin:.4rem 0}summary{cursor:pointer;color:var(--accent)}
@media screen and (max-width:40rem){svg.wide{display:none}svg.narrow{display:block}.texts tr{display:grid;grid-template-columns:4rem 1fr 1fr 4.4rem;border-bottom:1px solid var(--line)}
.texts td,.texts th{border:0;overflow-wrap:anywhere}.texts td:nth-child(2){order:9;grid-column:1/-1;padding-top:0}.texts th:nth-child(2){display:none}
.stack:not(.texts *,.findings *){& thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
& tr{display:flex;flex-wrap:wrap;gap:.35rem 1.1rem;padding:.5rem 0;border-bottom:1px solid var(--line)}
& td{border:0;padding:0;text-align:left;min-width:5rem;white-space:normal;overflow-wrap:anywhere}& td:empty{display:none}
& td::before{content:attr(data-of) " ";display:block;color:var(--soft);font-size:.75rem;font-weight:400}
& td:first-child{flex-basis:100%;font-weight:650;&::before{display:inline}}}}
.badge{font-weight:650}code{font-size:.85rem;overflow-wrap:anywhere}
@media print{:root{--ink:#000;--soft:#444;--paper:#fff;--card:#f4f4f4;--line:#ccc;--accent:#0b5cad;--k1:#b04a00;--k2:#3b7a2a;--k3:#7a3b8f}
nav{display:none}h2{break-after:avoid}svg,tr{break-inside:avoid}main{max-width:none;padding:0}.scroll{overflow:visible}table{font-size:.7rem}
th,td,.heat td,.heat th{padding:.2rem .3rem;font-size:.68rem;overflow-wrap:break-word}th,th.n,td.n{white-space:normal}
td.text{min-width:0}td .small,td code{font-size:inherit}svg.mini{min-width:0;width:90px}}
"""
