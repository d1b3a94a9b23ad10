package locator

import "github.com/nyaruka/phonenumbers"

// numberingPlan returns a canonical number as its country's numbering plan writes it
// in E.164, and whether it is valid there. All knowledge of numbering plans is
// behind this function.
func numberingPlan(canonical string) (formatted string, valid bool) {
	number, err := phonenumbers.Parse(canonical, phonenumbers.UNKNOWN_REGION)
	if err != nil || !phonenumbers.IsValidNumber(number) {
		return "", false
	}
	return phonenumbers.Format(number, phonenumbers.E164), true
}
