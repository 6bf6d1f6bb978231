// New nodes whose choices, title or report are long are drawn so wide that these can be read.

import { app } from "../../scripts/app.js";

/** Pixels. */
const WIDTHS = { UnlearnLoadDemoModel: 360, UnlearnLoadDelta: 360, UnlearnBalance: 280 };

app.registerExtension({
  name: "unlearn.widths",

  beforeRegisterNodeDef(nodeType, nodeData) {
    const least = WIDTHS[nodeData.name];
    if (!least) return;
    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function () {
      const result = created?.apply(this, arguments);
      this.setSize([Math.max(least, this.size[0]), this.size[1]]);
      return result;
    };
  },
});
