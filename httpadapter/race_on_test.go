//go:build race

package httpadapter_test

// raceDetector says that the race detector is on, which makes stacks larger.
const raceDetector = true
