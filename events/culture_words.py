# ruff: noqa: RUF001 -- letters of many scripts, as printed
"""Words in printed dates: day halves of every culture, month names of the larger European languages. Data, no code.

Lower case, letters and marks only. Source: Unicode CLDR (as in Babel 2.18; licence Unicode-3.0), which .NET prints
from. A date as .NET prints it by default holds no month name in any culture; the names serve the longer forms.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BEFORE_NOON: Final = _words(
    """
    a adduha ag am an ap atm bn comme de dinda dop dopołedniŏ fh fm gh goöň hh ib ibikɛ̂glà icheheavo idiɓa im
    ip isuk ka kangama ki kiroko kiɛmɛ́ɛm krn kíkíríg lb lumalwak lwamilawu m ma makeo maná mat mbaʼámbaʼ
    mbaꞌmbaꞌ moies muhi munkyo nd ntufat ntɔ́ngɔ́ nụtụtụ od pamilau pd pg pgsg priekšp priešpiet prijepodne rn
    rw rũ sa saaku sf soodo sub subaka subbaahi sárúwá taparachu tesiran tifawt to too uluchelo ut utuko vm
    vorm vormittags wd wichishu zdatazal zmu àárɔ̀ àárọ̀ öö ĩyakwakya ŋdi ǁgoagas ɛnkakɛnyá πμ ам апоўначы дп преподне
    претпл пријеподне то тң эи үө פֿאַרמיטאָג بن تد ص صبحمنجهند قظ چب ܩܛ ߛ एएम पूर्वाह्न फुं भोर भ्यागा सवेर
    নুমাং ਪੂਦੁ ଏଏମ ఎఎమ్ පෙව ກ່ອນທ່ຽງ སྔཆ སྔདྲོ နံနက် ማለዶ ቅቀ ጥዋት ጽባሕ ፋዱስጃብ ᏌᎾᎴ ᐊᒼ ⵜⵉⴼⴰⵡⵜ 上午 午前 ꎸꄑ 𐐰𐑋 𐑨𐑥 𞤢𞤰
    """
)
AFTER_NOON: Final = _words(
    """
    ak akasuba aluula carra ch chilo cɛɛ́nko dilolo du ea eb ebongi ebyámu eh eigulo em ep ew f fi gd gm gosoň
    hawwaro hwaĩinĩ ichamthi in ip iɓugajɔp ja kikiiɗe kingoto kisɛ́ndɛ koosk kugú kyiukonyi lilli lk lumalwap
    mchochill md mo mpókwa muu nabalị nachm nachmittags nam ncwònzém ngo ngəgógəle nm nomëttes ntmeddit nyiaghuo odp ot
    p pamunyi pashamihe pm pn pop popiet popodne popołedniu ptg ptm pēcp sn soir srmlm tadggʷat teipa tk tŋ uk
    ut wb wengi wótp ym zaarikayb zmw ös ĩyawĩoo ŋkambɔ́tnji ũg ǃuias ɔ̀sán ɛndámâ ɣetrɔ μμ апоўдні пм попл
    поподне пп тк эк үх נאָכמיטאָג بظ تك دن شاممنجهند م چك ܒܛ ߥ अपराह्न दपेहरासंजा पीएम बेलासे सञ सांझ ਬਾਦੁ
    ପିଏମ పిఎమ్ පව ຫຼັງທ່ຽງ ཕྱིཆ ཕྱིདྲོ ညနေ ምሴት ቃማ ከሰዓት ድቀ ፋዱስደምቢ ᏒᎯᏱᎢ ᐲᒼ ḍeffiraza ọ̀sán ⵜⴰⴷⴳⴳⵯⴰⵜ 下午 午後 ꁯꋒ 𐐹𐑋
    𐑐𐑥 𞤩𞤰
    """
)

BESIDE_A_TIME: Final = _words(
    "t h m s min sec uhr um at à le kl klock klo г ш ҫ аз թ ел р ч hodź st ga ora ore o 年 日"
)
"""What cultures print beside a time and what says nothing of the half of the day."""

_MONTHS: Final = (
    """
    ene enero gen gennaio ian ianuarie jaan jaanuar jan janeiro januar januari january január januára janv
    janvier janvāris led leden ledna oca ocak saus sausio sausis sij siječanj siječnja sty styczeń stycznia
    tammi tammikuu tammikuuta ιαν ιανουάριοσ ιανουαρίου січ січень січня янв январь января
    """,
    """
    feb febbraio febr febrero februar februari februarie february február februára februāris fev fevereiro
    févr février helmi helmikuu helmikuuta lut lutego luty vas vasario vasaris veebr veebruar velj veljača
    veljače úno únor února şub şubat φεβ φεβρουάριοσ φεβρουαρίου лют лютий лютого февр февраль февраля
    """,
    """
    bře březen března kov kovas kovo maalis maaliskuu maaliskuuta maart mar marca march marec mars mart martie
    marts marzec marzo março mrt márc március mär märts märz ožu ožujak ožujka μάρ μάρτιοσ μαρ μαρτίου бер
    березень березня мар март марта
    """,
    """
    abr abril apr april aprile aprilie aprill apríl apríla aprīlis avr avril bal balandis balandžio dub duben
    dubna huhti huhtikuu huhtikuuta kwi kwiecień kwietnia nis nisan tra travanj travnja ápr április απρ
    απρίλιοσ απριλίου апр апрель апреля квіт квітень квітня
    """,
    """
    geg gegužė gegužės kvě květen května mag maggio mai maijs maio maj maja may mayo mayıs mei máj mája május
    svi svibanj svibnja touko toukokuu toukokuuta μάι μάιοσ μαΐ μαΐου май мая трав травень травня
    """,
    """
    birž birželio birželis cze czerwca czerwiec giu giugno haz haziran iun iunie juin jun june junho juni
    junij junio juuni jún júna június jūn jūnijs kesä kesäkuu kesäkuuta lip lipanj lipnja červen června čvn
    ιουν ιουνίου ιούν ιούνιοσ июн июнь июня черв червень червня
    """,
    """
    heinä heinäkuu heinäkuuta iul iulie juil juillet jul julho juli julij julio july juuli júl júla július jūl
    jūlijs liep liepa liepos lip lipca lipiec lug luglio srp srpanj srpnja tem temmuz července červenec čvc
    ιουλ ιουλίου ιούλ ιούλιοσ июл июль июля лип липень липня
    """,
    """
    ago agosto août aug august augusta augusti augusts augustus augusztus avg avgust ağu ağustos elo elokuu
    elokuuta kol kolovoz kolovoza rugp rugpjūtis rugpjūčio sie sierpień sierpnia srp srpen srpna αυγ αυγούστου
    αύγ αύγουστοσ авг август августа серп серпень серпня
    """,
    """
    eyl eylül rugs rugsėjis rugsėjo ruj rujan rujna sep sept september septembra septembre septembrie
    septembris septiembre set setembro settembre syys syyskuu syyskuuta szept szeptember wrz wrzesień września
    zář září σεπ σεπτέμβριοσ σεπτεμβρίου вер вересень вересня сент сентябрь сентября
    """,
    """
    eki ekim lis listopad listopada loka lokakuu lokakuuta oct october octobre octombrie octubre okt oktober
    oktobris oktoober október októbra ott ottobre out outubro paź październik października spal spalio spalis
    říj říjen října οκτ οκτωβρίου οκτώβριοσ жовт жовтень жовтня окт октябрь октября
    """,
    """
    kas kasım lapkr lapkritis lapkričio lis listopad listopada listopadu marras marraskuu marraskuuta
    noiembrie nov november novembra novembre novembris novembro noviembre stu studeni studenoga νοέ νοέμβριοσ
    νοε νοεμβρίου лист листопад листопада нояб ноябрь ноября
    """,
    """
    ara aralık dec december decembra decembrie decembris des desember dets detsember dez dezember dezembro dic
    dicembre diciembre déc décembre gru grudnia grudzień gruod gruodis gruodžio joulu joulukuu joulukuuta pro
    prosinac prosinca prosince prosinec δεκ δεκέμβριοσ δεκεμβρίου груд грудень грудня дек декабрь декабря
    """,
)


def _numbered() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for number, words in enumerate(_MONTHS, start=1):
        for word in words.split():
            found[word] = (*found.get(word, ()), number)
    return found


MONTHS: Final = _numbered()
"""Every name and the months it can mean: the Croatian and the Czech listopad differ by one."""
