// Which workflow a run was queued from: what the server says names a node by its number alone, and by then another
// workflow may be open that has a node of that number too.

import { app } from "../../scripts/app.js";

/** Prompt ids, each with a reference to its workflow, so that one that is closed can go. */
const queued = new Map();

/** The workflow that is open now; undefined on pages that have but one. */
export function openWorkflow() {
  return app.extensionManager?.workflow?.activeWorkflow ?? undefined;
}

/** Remember from which workflow a run was queued. */
export function remember(promptId, workflow) {
  if (promptId && workflow) queued.set(promptId, new WeakRef(workflow));
}

/** Whether a run is known to belong to another workflow than the one that is open. */
export function isElsewhere(promptId) {
  return queued.has(promptId) && queued.get(promptId).deref() !== openWorkflow();
}
