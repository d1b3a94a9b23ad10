package denizen_test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/denizenhq/denizen"
)

// Access keys

func ExampleDirectory_CreateAccessKey() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret) // the only time the secret is seen
	fmt.Println(by, by.AccessKey() == key.Key, err)
	// Output: .system true <nil>
}

func ExampleDirectory_PutAccessKey() {
	ctx, dir := exampleDirectory()
	secret := base64.StdEncoding.EncodeToString([]byte("from the host's own vault, 32 bytes or more"))

	fmt.Println(dir.PutAccessKey(ctx, denizen.System(), "backend-2026", secret))
	fmt.Println(dir.PutAccessKey(ctx, denizen.System(), "backend-2026", secret)) // at the next start
	// Output:
	// <nil>
	// <nil>
}

func ExampleDirectory_AccessKeys() {
	ctx, dir := exampleDirectory()
	secret := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, key := range []string{"backend-2025", "backend-2026"} {
		if err := dir.PutAccessKey(ctx, denizen.System(), key, secret); err != nil {
			log.Fatal(err)
		}
	}

	keys, err := dir.AccessKeys(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range keys {
		fmt.Println(k.Key, k.LastUsedAt.IsZero())
	}
	// Output:
	// backend-2025 true
	// backend-2026 true
}

func ExampleDirectory_DeleteAccessKey() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}
	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret)
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(dir.DeleteAccessKey(ctx, denizen.System(), key.Key))
	_, err = dir.CountUsers(ctx, by) // a Principal from before is refused, too
	fmt.Println(errors.Is(err, denizen.ErrRevoked))
	// Output:
	// <nil>
	// true
}

func ExampleDirectory_AuthenticateKey() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}

	by, err := dir.AuthenticateKey(ctx, key.Key, key.Secret)
	fmt.Println(by, err)
	by, err = dir.AuthenticateKey(ctx, key.Key, "a guess")
	fmt.Println(by, err)
	// Output:
	// .system <nil>
	// .anonymous denizen: AuthenticateKey: accessKey: unauthenticated
}

func ExampleDirectory_AuthenticateSigned() {
	ctx, dir := exampleDirectory()
	key, err := dir.CreateAccessKey(ctx, denizen.System())
	if err != nil {
		log.Fatal(err)
	}

	// The client signs a request without a body.
	body := md5.Sum(nil)
	r := denizen.SignedRequest{
		AccessKey:   key.Key,
		Method:      "GET",
		ContentType: "null",
		ContentMD5:  base64.StdEncoding.EncodeToString(body[:]),
		Date:        time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"),
		Path:        "/v1/users",
		Nonce:       "nonce-0001",
	}
	secret, err := base64.StdEncoding.DecodeString(key.Secret)
	if err != nil {
		log.Fatal(err)
	}
	mac := hmac.New(sha1.New, secret)
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%s\n%s", r.Method, r.ContentType, r.ContentMD5, r.Date, r.Path, r.Nonce)
	r.Digest = base64.StdEncoding.EncodeToString(mac.Sum(nil))

	by, err := dir.AuthenticateSigned(ctx, r)
	fmt.Println(by, err)
	_, err = dir.AuthenticateSigned(ctx, r) // a second time
	fmt.Println(err)
	// Output:
	// .system <nil>
	// denizen: AuthenticateSigned: nonce: unauthenticated: was used before
}
