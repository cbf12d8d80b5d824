package main

import "strings"

// country is where customers live, how they are called and what they pay in.
type country struct {
	code, currency string
	rate           int // hundredths of the currency's smallest unit for a euro cent
	company        string
	familyFirst    bool
	given, family  []string
}

func names(text string) []string { return strings.Split(text, ",") }

var countries = []country{
	{"DE", "EUR", 100, "GmbH", false,
		names("Anna,Jürgen/juergen,Sophie,Björn/bjoern,Lukas,Käthe/kaethe,Mehmet,Friederike"),
		names("Müller/mueller,Schmidt,Groß/gross,Yılmaz/yilmaz,Weiß/weiss,von der Heide,Krüger/krueger,Nowak")},
	{"FR", "EUR", 100, "SARL", false,
		names("Zoë/zoe,François/francois,Amélie/amelie,Hugo,Inès/ines,Jean-Luc,Noémie/noemie,Karim"),
		names("Dupont,Lefèvre/lefevre,d'Aubigné/daubigne,Moreau,Benali,Garçon/garcon,Chevalier,Roux")},
	{"PT", "EUR", 100, "Lda.", false,
		names("João/joao,Inês/ines,Tiago,Conceição/conceicao,Beatriz,Gonçalo/goncalo,Marta,Rui"),
		names("Silva,Conceição/conceicao,Araújo/araujo,Gonçalves/goncalves,Pereira,Simões/simoes,Costa,Magalhães/magalhaes")},
	{"ES", "EUR", 100, "S.L.", false,
		names("Íñigo/inigo,María José/mariajose,Álvaro/alvaro,Lucía/lucia,Nuria,Begoña/begona,Pablo,Aitor"),
		names("Núñez/nunez,García/garcia,Ibáñez/ibanez,Peña/pena,Etxeberria,Martínez/martinez,Ortega,Vidal")},
	{"SE", "SEK", 1120, "AB", false,
		names("Åsa/asa,Göran/goran,Linnéa/linnea,Östen/osten,Elsa,Nils,Ebba,Amir"),
		names("Ångström/angstrom,Lindqvist,Sjöberg/sjoberg,Öberg/oberg,Holm,Ekström/ekstrom,Hosseini,Berg")},
	{"PL", "PLN", 430, "sp. z o.o.", false,
		names("Łukasz/lukasz,Małgorzata/malgorzata,Żaneta/zaneta,Paweł/pawel,Agnieszka,Grzegorz,Świętosława/swietoslawa,Ewa"),
		names("Wójcik/wojcik,Dąbrowski/dabrowski,Szczęsny/szczesny,Kowalska,Żuławski/zulawski,Źrebiec/zrebiec,Lis,Nowak")},
	{"IE", "EUR", 100, "Ltd.", false,
		names("Siobhán/siobhan,Seán/sean,Aoife,Pádraig/padraig,Niamh,Conor,Róisín/roisin,Oisín/oisin"),
		names("O'Brien,Ó Súilleabháin/osuilleabhain,Byrne,MacCarthy,Nic Dhonnchadha,Kelly,O'Shea,Walsh")},
	{"GB", "GBP", 86, "Ltd", false,
		names("Olivia,Harry,Priya,Kwame,Charlotte,Rhys,Ngozi,Alistair"),
		names("Smith,Patel,Llewellyn,Okafor,Featherstonehaugh,Mensah,Brontë/bronte,Campbell")},
	{"US", "USD", 108, "Inc.", false,
		names("Emily,José/jose,Kai,Latoya,Chloé/chloe,Mary-Ann,D'Andre/dandre,Wei"),
		names("Johnson,Hernández/hernandez,Nguyen,Smith-Jones,O'Neill,Chen,Washington,Kahananui")},
	{"GR", "EUR", 100, "Α.Ε.", false,
		names("Νίκος/nikos,Ελένη/eleni,Γιώργος/giorgos,Δήμητρα/dimitra,Σοφία/sofia,Κώστας/kostas"),
		names("Παπαδόπουλος/papadopoulos,Γεωργίου/georgiou,Οικονόμου/oikonomou,Δημητρίου/dimitriou,Αγγελής/angelis")},
	{"UA", "UAH", 4500, "ТОВ", false,
		names("Олена/olena,Тарас/taras,Ірина/iryna,Андрій/andrii,Юлія/yuliia,Богдан/bohdan"),
		names("Шевченко/shevchenko,Коваленко/kovalenko,Бондар/bondar,Ткачук/tkachuk,Мельник/melnyk")},
	{"IL", "ILS", 400, "בע״מ", false,
		names("נועה/noa,יוסף/yosef,תמר/tamar,איתן/eitan,שירה/shira,דוד/david"),
		names("כהן/cohen,לוי/levi,מזרחי/mizrahi,פרץ/peretz,אברהם/avraham")},
	{"AE", "AED", 397, "ش.م.م", false,
		names("فاطمة/fatima,محمد/mohammed,ليلى/layla,خالد/khalid,مريم/maryam,يوسف/yousef"),
		names("المنصوري/almansoori,حداد/haddad,الهاشمي/alhashimi,خوري/khoury,النجار/alnajjar")},
	{"IN", "INR", 9000, "Pvt. Ltd.", false,
		names("अनिल/anil,प्रिया/priya,राहुल/rahul,दीपा/deepa,விஜய்/vijay,মিতা/mita"),
		names("शर्मा/sharma,पटेल/patel,सिंह/singh,अय्यर/iyer,সেন/sen")},
	{"TH", "THB", 3900, "จำกัด", false,
		names("สมชาย/somchai,มาลี/malee,อนันต์/anan,สุดา/suda,ปรีชา/preecha"),
		names("ใจดี/jaidee,ศรีสุข/srisuk,วงศ์ทอง/wongthong,แสงจันทร์/saengchan")},
	{"VN", "VND", 26000, "TNHH", true,
		names("Thị Hương/huong,Văn Đức/duc,Minh Châu/chau,Quỳnh/quynh,Anh Tuấn/tuan,Thảo/thao"),
		names("Nguyễn/nguyen,Trần/tran,Lê/le,Phạm/pham,Đặng/dang")},
	{"JP", "JPY", 165, "株式会社", true,
		names("花子/hanako,太郎/taro,さくら/sakura,健一/kenichi,美咲/misaki,翔/sho"),
		names("佐藤/sato,鈴木/suzuki,髙橋/takahashi,渡邉/watanabe,山﨑/yamazaki")},
	{"KR", "KRW", 1500, "주식회사", true,
		names("민준/minjun,서연/seoyeon,지우/jiwoo,하은/haeun,도윤/doyun"),
		names("김/kim,이/lee,박/park,최/choi,정/jung")},
	{"CN", "CNY", 780, "有限公司", true,
		names("伟/wei,秀英/xiuying,晓明/xiaoming,芳/fang,子涵/zihan"),
		names("王/wang,李/li,张/zhang,欧阳/ouyang,陈/chen")},
	{"BR", "BRL", 620, "Ltda.", false,
		names("Thaís/thais,Antônio/antonio,Luíza/luiza,Caio,Jussara,Tainá/taina"),
		names("dos Santos,Assunção/assuncao,Oliveira,Guimarães/guimaraes,Yamamoto")},
}

var domains = []string{"example.com", "example.org", "example.net", "mail.example", "post.example"}

var nicknames = []string{"Nina", "Max", "Bo", "Kit", "Lou"}

type product struct {
	sku, name string
	cents     int // in euro
}

var products = []product{
	{"LAMP-014", "Desk lamp, brass", 7900},
	{"LAMP-022", "Clip lamp, matt black", 3450},
	{"DISP-027", `Monitor 27", matte`, 24900},
	{"DISP-032", `Monitor 32", 4K, USB-C`, 46900},
	{"CABL-002", "Cable USB-C to USB-C, 2 m", 1290},
	{"CABL-010", "Network cable Cat 6, 10 m", 990},
	{"KEYB-105", "Keyboard, German layout", 8990},
	{"KEYB-201", "Tastatur für Einhänder", 15900},
	{"BOOK-311", "Der Zauberberg, Thomas Mann", 1800},
	{"BOOK-312", "«L'Étranger», Albert Camus", 950},
	{"BOOK-313", "吾輩は猫である", 1150},
	{"BOOK-314", "Ensaio sobre a Cegueira", 1490},
	{"BOOK-315", "The Left Hand of Darkness", 1090},
	{"COFF-500", "Coffee beans, Sidamo, 500 g", 1350},
	{"COFF-V60", "Pour-over dripper, size 02", 2290},
	{"TEA-0100", "Sencha 煎茶, 100 g", 1180},
	{"CHAI-001", "Office chair \"Åre\", grey", 28900},
	{"TABL-160", "Table top, oak, 160 × 80 cm", 19900},
	{"BAGP-025", "Rucksack, 25 l, waxed canvas", 11900},
	{"BOTT-075", "Bottle, steel, 0.75 l", 2790},
	{"NOTE-A05", "Notebook A5, dotted, 192 pages", 1650},
	{"PENC-012", "Pencils HB, box of 12", 890},
	{"INK-0030", "Ink, bleu nuit, 30 ml", 1450},
	{"SOCK-042", "Wool socks, 39–42", 1590},
	{"SCAR-007", "Scarf, lambswool, café crème", 4900},
	{"JACK-00M", "Rain jacket, M, yellow", 12900},
	{"BIKE-LGT", "Bicycle light set, front & rear", 3990},
	{"BIKE-TUB", `Inner tube 28", Presta valve`, 650},
	{"TOOL-018", "Screwdriver set, 18 pieces", 2450},
	{"TOOL-MSR", "Tape measure, 5 m / 16'", 1190},
	{"PLNT-MON", "Monstera deliciosa, 60 cm", 3290},
	{"SOAP-OLV", "Olive oil soap, Αθήνα", 590},
	{"SPCE-PIM", "Pimentón de la Vera, 75 g", 420},
	{"CHOC-070", "Chocolate 70 %, São Tomé", 380},
	{"HEAD-250", "Headphones, closed, 250 Ω", 16900},
	{"MICR-001", "Microphone, USB, with stand", 9900},
	{"CHRG-065", "Charger 65 W, two ports", 4490},
	{"GIFT-025", "Gift card", 2500},
	{"STCK-001", "Sticker \"Handle with care\"", 150},
	{"MAIL-BOX", "Shipping box, 30 × 20 × 10 cm", 95},
}
