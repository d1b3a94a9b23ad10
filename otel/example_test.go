package denizenotel_test

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/denizenhq/denizen"
	denizenotel "github.com/denizenhq/denizen/otel"
	"github.com/denizenhq/denizen/store/memory"
)

// A program sets up its SDK, and gives the directory what is told to it.
func Example() {
	spans := tracetest.NewInMemoryExporter()
	telemetry, err := denizenotel.New(denizenotel.Options{
		TracerProvider: trace.NewTracerProvider(trace.WithSyncer(spans)),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, system := context.Background(), denizen.System()
	dir, err := denizen.New(ctx, memory.New(), denizen.Options{Trace: telemetry.Trace})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	stop, err := telemetry.Observe(dir, system)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	_, err = dir.User(ctx, system, "nobody-of-the-world")
	fmt.Println(err)
	for _, span := range spans.GetSpans() {
		fmt.Println(span.Name)
		for _, attribute := range span.Attributes {
			fmt.Printf("  %s: %s\n", attribute.Key, attribute.Value.String())
		}
	}
	// Output:
	// denizen: User: user: not found
	// User
	//   db.operation.name: User
	//   db.system.name: denizen
	//   denizen.caller: .system
	//   db.response.status_code: not_found
}
