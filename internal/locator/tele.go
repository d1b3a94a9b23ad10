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
			return "", refuse("telephone number holds a character other than ASCII digits, spaces, dashes, dots and round brackets after its +")
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
