"""What is asked of ComfyUI's page, as JavaScript."""

READY = """Boolean(window.app?.graph && app.canvas && document.querySelector('canvas')
  && app.extensionManager?.workflow?.activeWorkflow)"""
"""Also that the last workflow is open again: until then the page would replace any other by it."""
NODE = "app.graph.nodes.find(n => n.type === 'UnlearnForgetConcept')"
OPEN = """(async () => {
  const answer = await fetch(encodeURI('/api/workflow_templates/%s/Forget one concept.json'));
  await app.loadGraphData(await answer.json());
  return app.graph.nodes.length;
})()"""
