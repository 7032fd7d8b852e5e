"""Words with letters missing, wrong, swapped, in brackets or run together are read; others stay."""

import pytest

from model.fold import fold_text


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("Li*e this co*ment", "Like this comment"),
        ("Check this ch*nn*l", "Check this channel"),
        ("A gift from m?xico", "A gift from mexico"),
        ("Click he|e for che#p watches", "Click here for cheap watches"),
        ("Go chcek out my vidoe", "Go check out my video"),
        ("Now SUSCRIBE to my chanel!", "Now SUBSCRIBE to my channel!"),
        ("Pleeease liiike it", "Please like it"),
        ("We get zfree quotes stoday", "We get free quotes today"),
        (
            "Please send the mony for your new acount befor Monday so that we finish in time",
            "Please send the money for your new account before Monday so that we finish in time",
        ),
        ("The farmer ' s coop", "The farmer's coop"),
        ("t h e c o s h a s o n e o f t h e m", "The cos has one of them"),
        ("Buy onl/ine and bef.ore May", "Buy online and before May"),
        ("Ch(eck this vi,deo for FR.EE", "Check this video for FREE"),
        ("Infor-\nmation on the meet-\ning", "Information on the meeting"),
        ("Read the infor\nmation on it", "Read the information on it"),
        ("We m ake you monthl y offers", "We make you monthly offers"),
        ("It came fr om us", "It came from us"),
        ("[Check] [out] [my] [page]", "Check out my page"),
        ("*Win* *cash* *now* *here*", "Win cash now here"),
        ("Check\nout\nmy\npage", "Check out my page"),
        ("cHeCK oUT mY NeW CHaNneL noW pLEasE", "Check out my new channel now please"),
        ("Checkoutmynewchannel", "Check out my new channel"),
        ("VisitMy ChannelFor FreeMusic", "Visit My Channel For Free Music"),
        ("Súbscríbé tó mé plz", "Subscribe to me plz"),
        ("We d|o|n|'|t call 8|6|6|8|8", "We don't call 86688"),
        ("Ch€ck out this fr€€ page", "Check out this free page"),
        ("The speciall offer of moneyy", "The special offer of money"),
    ],
)
def test_misspelled_words_are_read(disguised: str, plain: str) -> None:
    assert fold_text(disguised) == plain


@pytest.mark.parametrize(
    "text",
    [
        "It may be a mispelling of one word",
        "Thanx 4 puttin da fone down on me",
        "Dodgy emojis and corvettes",
        "Some feedbacks and youtubes",
        "Now wearin and makin it",
        "We can study all the positions of the kama sutra",
        "What the h**l is it",
        "Theres a bus at nine",
        "Milch\nButter\nKartoffeln\nZwiebeln",
        "Limite aumentado conforme solicitado",
        "Aight will do, thanks again for comin out",
        "No te oigo bien, nada",
        "Kroger and Josie met Femi at the office in the city on the way to the game",
        "f*** *all* of 5*6 see *.doc in mil*",
        "Wi-Fi and e-mails of van der Berg",
        "The house(s) and his/her and/or word.Next",
        "There-\nafter we go",
        "Sign [here] and [there] on the page",
        "[photo]",
        "Ha ha said Na na",
        "Oranges\nLemons\nBread",
        "Look at SourceForge please",
        "PayPal and JavaScript",
        "Goodmorning sunshine",
        "Café in Málaga",
        "No sé qué decir",
        "50€ or €50 a head, 5€/kg",
        "Y|N|Y|N",
        "Don't ake",
        "Beech 85 a cubic metre, all split and dry, 20 if you help unload. Herr Lindner",
    ],
)
def test_honest_words_stay(text: str) -> None:
    assert fold_text(text).lower() == text.lower()
