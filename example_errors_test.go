package denizen_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/denizenhq/denizen"
)

func ExampleError() {
	ctx, dir := exampleDirectory()
	_, err := dir.CreateUser(ctx, denizen.System(), denizen.NewUser{ScreenName: ""})

	fmt.Println(errors.Is(err, denizen.ErrInvalid))
	if refused, ok := errors.AsType[*denizen.Error](err); ok {
		fmt.Println(refused.Op, refused.Field, refused.Reason)
		fmt.Println(refused.Cause()) // of the store, for the log
	}
	// Output:
	// true
	// CreateUser screenName must be 1 to 128 characters
	// <nil>
}

func ExampleError_LogValue() {
	_, err := denizen.ParseUserID("no")
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "reason" {
				return slog.Attr{}
			}
			return a
		},
	}))
	log.Error("not let in", "err", err)
	// Output: level=ERROR msg="not let in" err.op=ParseUserID err.kind=invalid err.field=user
}
