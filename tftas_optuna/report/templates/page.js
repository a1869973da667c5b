"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const figures = JSON.parse(document.getElementById("figures").textContent);
const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];

// Plotly lies compressed in the page: as it is, it would be most of it.
async function loadPlotly() {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function template() {
  const [ink, line] = dark.matches ? ["#e4e7ea", "#30363c"] : ["#1d2126", "#dfe3e7"];
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  return {
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: "system-ui, sans-serif" }, xaxis: axis, yaxis: axis,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink },
      hoverlabel: { font: { family: "system-ui, sans-serif" } },
    },
  };
}

function draw() {
  for (const [id, figure] of Object.entries(figures)) {
    Plotly.react(id, figure.data, { ...figure.layout, template: template() },
      { displaylogo: false, responsive: true, modeBarButtons: buttons });
  }
}

function complain(error) {
  const line = document.getElementById("trouble");
  line.textContent = `The figures cannot be drawn by this browser (${error}); one of 2023 or later can.`;
  line.hidden = false;
}

loadPlotly().then(() => {
  draw();
  dark.addEventListener("change", draw);
}).catch(complain);
