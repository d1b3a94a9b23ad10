package locator

// The number of digits, with the country code. E.164 sets the upper limit. Numbers below the lower
// one are short service numbers, which do not reach one person.
const (
	minDigits = 7
	maxDigits = 15
)

// maxTele is the maximum length of a number as given, in bytes.
const maxTele = 64

func shapeTele(address string) (string, error) {
	if len(address) > maxTele {
		return "", refuse("telephone number is longer than 64 bytes")
	}
	if address == "" || address[0] != '+' {
		return "", refuse("telephone number does not begin with +")
	}
	var buf [1 + maxDigits]byte
	canonical := append(buf[:0], '+')
	for i := 1; i < len(address); i++ {
		switch c := address[i]; {
		case isDigit(c):
			if len(canonical) == len(buf) {
				return "", refuse("telephone number has more than 15 digits")
			}
			canonical = append(canonical, c)
		case c != ' ' && c != '-' && c != '.' && c != '(' && c != ')':
			return "", refuse("telephone number holds a character other than ASCII digits, " +
				"spaces, dashes, dots and round brackets after its +")
		}
	}
	if len(canonical) < 1+minDigits {
		return "", refuse("telephone number has fewer than 7 digits")
	}
	if canonical[1] == '0' {
		return "", refuse("telephone number has a country code that begins with 0")
	}
	if !isDigit(address[len(address)-1]) {
		return "", refuse("telephone number does not end in a digit")
	}
	if len(canonical) == len(address) {
		return address, nil
	}
	return string(canonical), nil
}

// TeleIn returns the canonical form of a number as it is typed in a region: with a trunk prefix, an
// international prefix or none. The region is two capital letters of ISO 3166-1. A number that
// begins with + is read without the region.
//
// A number that is not valid is refused and never corrected. The error is an [*Error].
func TeleIn(region, number string) (string, error) {
	if len(region) != 2 || region[0] < 'A' || region[0] > 'Z' || region[1] < 'A' || region[1] > 'Z' {
		return "", refuse("region is not two capital letters of ISO 3166-1")
	}
	if len(number) > maxTele {
		return "", refuse("telephone number is longer than 64 bytes")
	}
	if number != "" && number[0] == '+' {
		l, err := New(Tele, number)
		return l.Canonical, err
	}
	for i := range len(number) {
		switch c := number[i]; {
		case isDigit(c), c == ' ', c == '-', c == '.', c == '(', c == ')', c == '/':
		default:
			return "", refuse("telephone number holds a character other than ASCII digits, " +
				"spaces, dashes, dots, slashes and round brackets")
		}
	}
	canonical, err := international(region, number)
	if err != nil {
		return "", err
	}
	l, err := New(Tele, canonical)
	return l.Canonical, err
}
