package httpadapter

import (
	_ "embed"
	"encoding/json"
)

// document is the OpenAPI 3.1 document of what a handler serves. Its paths begin with /v1.
//
//go:embed openapi.json
var document []byte

func openAPI(*call) (reply, error) { return okJSON(json.RawMessage(document)) }
