package httpadapter

import (
	_ "embed"
	"encoding/json"
)

// OpenAPI is the OpenAPI 3.1 document of what a handler serves, as JSON. Paths begin with /v1.
//
//go:embed openapi.json
var document []byte

func openAPI(*call) (reply, error) { return ok(json.RawMessage(document)) }
