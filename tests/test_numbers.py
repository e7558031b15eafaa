"""Numbers: one party printed in many ways is one party, and withheld ones prove nothing."""

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events import numbers
from events.numbers import Comparison, compare, party, same_number, suffix_key
from events.webhook import Party

GENEVA = "+41225551234"


@st.composite
def swiss_numbers(draw: st.DrawFn) -> str:
    """The nine digits of a Swiss number: an area and a subscriber."""
    return draw(st.sampled_from(["22", "21", "31", "44", "61", "79", "78"])) + str(
        draw(st.integers(2_000_000, 9_999_999))
    )


@st.composite
def printed(draw: st.DrawFn, national: str) -> str:
    """A Swiss number as templates, trunks and phones print it: 3CX's four prefixes, and all that is around a number."""
    area, one, two, three = national[:2], national[2:5], national[5:7], national[7:]
    gap = draw(st.sampled_from(["", " ", "-", ".", "/", "\u00a0", "\u2010"]))
    grouped = gap.join([area, one, two, three])
    forms = [f"+41{gap}{grouped}", f"0041{gap}{grouped}", f"41{gap}{grouped}", f"0{grouped}", grouped]
    forms += [f"+41{gap}(0){gap}{grouped}", f"+41 ({area}) {one} {two} {three}", f" 41{national}"]
    number = draw(st.sampled_from(forms))
    around = ["{}", '"Alice B" <{}>', "Alice 2 <{}>", "{} (Alice)", "{} Alice", "Alice {}", "{},"]
    around += ["sip:{}@pbx.example.com:5060", "<sip:{}@192.0.2.1;user=phone>", "tel:{}", "TEL:{};ext=9", "{}\u200e"]
    shape = draw(st.sampled_from(around if not number.startswith(" ") else ["{}"]))
    return shape.format(number).replace("\u200e", "")


@given(national=swiss_numbers(), data=st.data())
def test_every_print_of_a_number_is_the_same_number_and_has_its_e164_in_its_country(
    national: str, data: st.DataObject
) -> None:
    one, other = (party(data.draw(printed(national)), "CH") for _ in range(2))
    assert one.e164 == other.e164 == f"+41{national}"
    assert same_number(one, other)
    assert suffix_key(one) == suffix_key(other)


@given(national=swiss_numbers(), data=st.data(), country=st.sampled_from([None, "CH", "FR", "US"]))
def test_every_print_of_a_number_is_the_same_number_wherever_the_pbx_is(
    national: str, data: st.DataObject, country: str | None
) -> None:
    one, other = (party(data.draw(printed(national)), country) for _ in range(2))
    assert compare(one, other) is Comparison.SAME
    assert suffix_key(one) == suffix_key(other)


@given(national=swiss_numbers(), kept=st.integers(7, 9), data=st.data())
def test_a_number_cut_to_its_last_digits_is_still_the_same(national: str, kept: int, data: st.DataObject) -> None:
    # Leading zeros go; what then remains must still be long enough to prove anything.
    cut = party(national[-kept:], "CH")
    if len(cut.digits) >= numbers.SUFFIX_DIGITS_MIN:
        assert same_number(cut, party(data.draw(printed(national)), "CH"))


@given(swiss_numbers(), swiss_numbers())
def test_two_numbers_are_different(one: str, other: str) -> None:
    expected = Comparison.SAME if one == other else Comparison.DIFFERENT
    assert compare(party(f"+41{one}", "CH"), party(f"0{other}", "CH")) is expected


@pytest.mark.parametrize(
    ("text", "country", "e164"),
    [
        ("+41225551234", None, GENEVA),
        ("0041225551234", None, GENEVA),
        ("41225551234", None, None),
        ("41225551234", "CH", GENEVA),
        ("022 555 12 34", "CH", GENEVA),
        ("225551234", "CH", GENEVA),
        ("022 555 12 34", None, None),
        ("5551234", "CH", None),  # without its area it exists nowhere
        (" 41225551234", None, GENEVA),  # a plus that a form decoded
        ("+41 (0)22 555 12 34", None, GENEVA),
        ("+15555550100", None, "+15555550100"),  # possible is enough behind a plus
        ("(202) 456-1111", "US", "+12024561111"),
        ("01 42 68 53 00", "FR", "+33142685300"),
        ("06 698 12345", "IT", "+390669812345"),  # the zero belongs to the number
        ("201", "CH", None),
        ("+1", "CH", None),
        ("(555) 010-0000", "US", None),  # without a plus it must exist
        ("1-800-FLOWERS", "US", None),
        ("9" * 40, "CH", None),
    ],
)
def test_e164_is_had_where_it_can_be_had(text: str, country: str | None, e164: str | None) -> None:
    assert party(text, country).e164 == e164


@pytest.mark.parametrize("text", ["201", "00", "01", "*88", "0201"])
def test_an_extension_is_text_and_keeps_its_zeros(text: str) -> None:
    found = party(text, "CH")
    assert (found.text, found.e164, found.withheld) == (text, None, False)
    assert found.digits == text.removeprefix("*")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("201", "201", Comparison.SAME),
        ("201", "sip:201@pbx", Comparison.SAME),
        ("201", '"Alice" <201>', Comparison.SAME),
        ("201", "201 Alice", Comparison.SAME),
        ("01", "1", Comparison.DIFFERENT),
        ("00", "0", Comparison.DIFFERENT),
        ("1201", "201", Comparison.DIFFERENT),  # short numbers only exactly
        ("551234", "+41225551234", Comparison.DIFFERENT),
        ("5551234", "+41225551234", Comparison.SAME),
        ("Sales", "SALES", Comparison.SAME),
        ("Sales", "Support", Comparison.DIFFERENT),
        ("Sales", "+41225551234", Comparison.UNKNOWN),
        ("anonymous", "+41225551234", Comparison.UNKNOWN),
        ("anonymous", "anonymous", Comparison.UNKNOWN),
        (None, "+41225551234", Comparison.UNKNOWN),
        (None, None, Comparison.UNKNOWN),
    ],
)
def test_two_parties_are_the_same_different_or_not_known(
    one: str | None, other: str | None, expected: Comparison
) -> None:
    mine, theirs = party(one, "CH"), party(other, "CH")
    assert compare(mine, theirs) is expected
    assert compare(theirs, mine) is expected
    assert same_number(mine, theirs) is (expected is Comparison.SAME)


@pytest.mark.parametrize(
    "text",
    [
        "anonymous",
        "Anonymous",
        "ANONYMOUS",
        '"Anonymous" <sip:anonymous@anonymous.invalid>',
        "unknown",
        "Unknown Caller",
        "withheld",
        "private",
        "Private Number",
        "restricted",
        "unavailable",
        "Numéro masqué",
        "unterdrückt",
        "-",
        "+",
        "",
        "   ",
        None,
    ],
)
def test_a_withheld_number_is_withheld(text: str | None) -> None:
    found = party(text, "CH")
    assert (found.withheld, found.e164, found.digits) == (True, None, "")


def test_a_zero_in_brackets_is_no_digit_of_the_number() -> None:
    assert same_number(party("+41 (0)22 555 12 34", None), party("41225551234", None))


def test_a_number_beside_a_withholding_name_is_known() -> None:
    assert party('"Anonymous" <+41225551234>', None).e164 == GENEVA


texts = st.text(max_size=300) | st.text(alphabet="+0123456789 ()<>@;:-ab", max_size=40) | st.none()
parties = st.builds(party, texts, st.sampled_from([None, "CH", "US"]))


@given(parties, parties)
def test_sameness_is_symmetric_and_parties_that_are_the_same_share_their_key(one: Party, other: Party) -> None:
    assert compare(one, other) is compare(other, one)
    if same_number(one, other):
        assert suffix_key(one) == suffix_key(other)
    if not one.withheld:
        assert compare(one, one) is Comparison.SAME
    assert one.digits.isascii()


@example(375, "886515110")  # the 8 is a prefix, which comes off
@example(41, "0225551234")
@settings(max_examples=200)
@given(
    st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)),
    st.from_regex(r"[01589]?[0-9]{5,11}", fullmatch=True),
)
def test_the_quick_way_to_e164_says_what_phonenumbers_says(calling_code: int, national: str) -> None:
    number = phonenumbers.parse(f"+{calling_code}{national}"[:16])
    possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    expected = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if possible else None
    assert party(f"+{calling_code}{national}"[:16], None).e164 == expected


@given(
    st.one_of(
        st.none(),
        st.text(max_size=40),
        st.text(st.sampled_from("+0123456789 ()<>-٣a"), max_size=40),
        swiss_numbers().flatmap(printed),
    )
)
@example("0" * 33)
@example("+0000000")
@example("anonymous")
def test_the_digits_alone_are_those_of_the_party(text: str | None) -> None:
    assert numbers.digits_of(text) == party(text, None).digits == party(text, "CH").digits


@given(st.from_regex(r"\+?[0-9]{1,40}", fullmatch=True), st.sampled_from([None, "CH"]))
def test_a_plain_number_is_read_as_one_that_is_looked_for_in_a_text(text: str, country: str | None) -> None:
    assert party(text, country)._replace(text=None) == party(f"<{text}>", country)._replace(text=None)
