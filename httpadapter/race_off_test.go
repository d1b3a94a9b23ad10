//go:build !race

package httpadapter_test

const raceDetector = false
