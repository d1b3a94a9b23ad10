package denizen

import (
	"bytes"
	"context"
	"encoding/base64"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen/internal/record"
	"github.com/denizenhq/denizen/store/memory"
)

// Whatever is opened, hashed and compared is as long for a secret of 32 bytes, for one of 1,024
// and for the one that stands in for a key that is not there.
func TestKeys_WorkOnAnAccessKeyIsAsLongForAllSecretsAndForNone(t *testing.T) {
	for name, root := range map[string][]byte{"in the clear": nil, "sealed": bytes.Repeat([]byte{7}, 32)} {
		t.Run(name, func(t *testing.T) {
			d := keysOfAllLengths(t, root)
			entries, err := d.load(context.Background(), record.AccessKeysKey)
			require.NoError(t, err)
			for _, k := range entries[0].Value().(*record.AccessKeys).Keys {
				require.Len(t, k.Secret, len(d.dummySecret), k.Key)
				require.Len(t, accessPurpose(k.Key), len(accessPurpose("")))
				found, proof, err := d.accessKey(context.Background(), k.Key)
				require.NoError(t, err)
				require.NotNil(t, found)
				require.Len(t, proof.hmacKey(), 64)
			}
			found, _, err := d.accessKey(context.Background(), "nobodys-key")
			require.NoError(t, err)
			require.Nil(t, found)
		})
	}
}

// An unknown key costs what a known one does because a secret is opened and compared for it, too:
// one that cannot be opened is met whether a key is known or not.
func TestKeys_ForAnUnknownAccessKeyASecretIsOpenedToo(t *testing.T) {
	d := keysOfAllLengths(t, bytes.Repeat([]byte{7}, 32))
	d.dummySecret = d.dummySecret[:len(d.dummySecret)-8]
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	_, err := d.AuthenticateKey(context.Background(), "nobodys-key", secret)
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = d.AuthenticateSigned(context.Background(), SignedRequest{AccessKey: "nobodys-key"})
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = d.AuthenticateKey(context.Background(), "key-of-32", secret)
	require.NoError(t, err)
}

func keysOfAllLengths(t *testing.T, root []byte) *Directory {
	t.Helper()
	var roots [][]byte
	if root != nil {
		roots = append(roots, root)
	}
	d, err := New(context.Background(), memory.New(), Options{RootKeys: roots})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	long := "known-key-" + string(bytes.Repeat([]byte{'x'}, 118))
	for key, n := range map[string]int{"key-of-32": 32, "key-of-65": 65, long: 1024} {
		secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, n))
		require.NoError(t, d.PutAccessKey(context.Background(), System(), key, secret))
		by, err := d.AuthenticateKey(context.Background(), key, secret)
		require.NoError(t, err)
		require.True(t, by.IsSystem())
	}
	return d
}

// The t of Welch's test of a known key against an unknown one, where it is asked for: a
// measurement, which a busy machine may disturb.
func TestKeys_TheTimeOfAnUnknownAccessKeyIsMeasured(t *testing.T) {
	if os.Getenv("DENIZEN_TIMING") == "" {
		t.Skip("DENIZEN_TIMING is not set")
	}
	d := keysOfAllLengths(t, bytes.Repeat([]byte{7}, 32))
	keys := []string{"known-key-" + string(bytes.Repeat([]byte{'x'}, 118)), "other-key-" + string(bytes.Repeat([]byte{'x'}, 118))}
	wrong := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	const n = 200_000
	var sum, squares, count [2]float64
	for i := range n {
		began := time.Now()
		_, err := d.AuthenticateKey(context.Background(), keys[i%2], wrong)
		took := float64(time.Since(began))
		require.ErrorIs(t, err, ErrUnauthenticated)
		if took > 50_000 {
			continue // another process had the machine
		}
		sum[i%2], squares[i%2], count[i%2] = sum[i%2]+took, squares[i%2]+took*took, count[i%2]+1
	}
	var mean, variance [2]float64
	for i := range 2 {
		mean[i] = sum[i] / count[i]
		variance[i] = squares[i]/count[i] - mean[i]*mean[i]
	}
	t.Logf("known %.0f ns, unknown %.0f ns, t = %.1f", mean[0], mean[1],
		(mean[0]-mean[1])/math.Sqrt(variance[0]/count[0]+variance[1]/count[1]))
}
