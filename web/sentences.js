// Why one of the pack's nodes did not run, in its own sentence: on the node and in a toast. ComfyUI's own toast says only
// that there was an error, before a run ("rejected the value") as well as in it ("threw an error").

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeOf, panelOn } from "./panel.js";
import { isElsewhere, openWorkflow, remember } from "./runs.js";

const OURS = /^Unlearn/;
const LONGEST = 600;
/** Milliseconds for which a toast stays. */
const SHOWN = 8000;
/** Nodes with a sentence on them. */
const refused = new Set();

/** The sentence in what ComfyUI found before a run, "concept - Name the concept"; "" for errors of its own. */
function sentenceIn(error) {
  const start = `${error.extra_info?.input_name} - `;
  const details = String(error.details ?? "");
  return error.type === "custom_validation_failed" && details.startsWith(start) ? details.slice(start.length) : "";
}

/** Put the sentence on the node and give the node's title. write: what of its panel takes the sentence. */
function writeOn(node, sentence, write) {
  if (node) {
    panelOn(node)?.[write](sentence);
    refused.add(node);
  }
  return node?.title ?? "Unlearning";
}

function toast(title, sentence) {
  // without its tab of errors ComfyUI opens a dialog, which has the sentence in it
  if (!app.extensionManager?.setting?.get?.("Comfy.RightSidePanel.ShowErrorsTab")) return;
  app.extensionManager.toast?.add?.({ severity: "error", summary: title, detail: sentence, life: SHOWN });
}

/** Show what was found before a run. errors: {node id: {class_type, errors}}. here: whether its workflow is open. */
function showFound(errors, here) {
  const found = [];
  for (const [id, { class_type: kind, errors: reasons }] of Object.entries(errors ?? {})) {
    if (!OURS.test(kind)) continue;
    const sentences = [...new Set((reasons ?? []).map(sentenceIn).filter(Boolean))];
    if (!sentences.length) continue;
    found.push([writeOn(here ? nodeOf(id) : null, sentences.join("\n"), "refused"), sentences.join(" ")]);
  }
  // a node that waits for another one repeats what is said there
  const others = (sentence) => found.some(([, other]) => other !== sentence && sentence.includes(other));
  for (const [title, sentence] of found) if (!others(sentence)) toast(title, sentence);
}

function clear() {
  for (const node of refused) node.unlearnPanel?.refused("");
  refused.clear();
}

app.registerExtension({
  name: "unlearn.sentences",

  setup() {
    api.addEventListener("execution_error", ({ detail }) => {
      if (!OURS.test(detail?.node_type ?? "")) return;
      const sentence = String(detail.exception_message ?? "").trim().slice(0, LONGEST) || "stopped by an error";
      const node = isElsewhere(detail.prompt_id) ? null : nodeOf(detail.node_id);
      toast(writeOn(node, sentence, "failed"), sentence);
    });
    const queue = api.queuePrompt;
    api.queuePrompt = async function () {
      clear();
      const workflow = openWorkflow();
      try {
        const answer = await queue.apply(this, arguments);
        remember(answer?.prompt_id, workflow);
        showFound(answer?.node_errors, workflow === openWorkflow());
        return answer;
      } catch (error) {
        showFound(error?.response?.node_errors, workflow === openWorkflow());
        throw error;
      }
    };
  },
});
