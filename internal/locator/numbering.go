//go:build !denizen_notele

package locator

import "github.com/nyaruka/phonenumbers"

// international returns the E.164 format of a number that is dialled in a region.
func international(region, number string) (string, error) {
	if phonenumbers.GetCountryCodeForRegion(region) == 0 {
		return "", refuse("region has no numbering plan")
	}
	n, err := phonenumbers.Parse(number, region)
	if err != nil || !phonenumbers.IsValidNumber(n) {
		return "", refuse("telephone number is not valid where it was typed")
	}
	return phonenumbers.Format(n, phonenumbers.E164), nil
}

// judgeTele checks a canonical number against the numbering plans. A number that they format
// differently is refused and not corrected: a second spelling would be a second locator. All
// knowledge of numbering plans is behind this file.
func judgeTele(canonical string) error {
	number, err := phonenumbers.Parse(canonical, phonenumbers.UNKNOWN_REGION)
	if err != nil || !phonenumbers.IsValidNumber(number) {
		return refuse("telephone number is not valid in any country's numbering plan")
	}
	if phonenumbers.Format(number, phonenumbers.E164) != canonical {
		return refuse("telephone number is not in its E.164 format, " +
			"which has no trunk zero or other prefix")
	}
	return nil
}
