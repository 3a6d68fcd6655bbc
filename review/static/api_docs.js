// The list of operations. Only what reads can be tried: a page that does not show what the line does must not act on it.
"use strict";

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", validatorUrl: null, supportedSubmitMethods: ["get"] });
