package main

import "strings"

// label names a session for the person that it is of, as "Firefox on Android". It is shown to
// nobody else, and says what the browser said.
func label(userAgent string) string {
	named := func(otherwise string, names ...string) string {
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(userAgent, names[i]) {
				return names[i+1]
			}
		}
		return otherwise
	}
	// Each of them also says that it is those after it.
	browser := named("A program",
		"Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "FxiOS/", "Firefox",
		"CriOS/", "Chrome", "Chrome/", "Chrome", "Safari/", "Safari")
	system := named("",
		"Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows",
		"Macintosh", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	return browser + strings.TrimSuffix(" on "+system, " on ")
}
